//! The rules of `[egress]` and `[local]`: what each names, and whether it may.

use std::collections::HashMap;

use common::{
    flow::{TCP, UDP},
    limits::RULES_PER_POLICY_MAX,
};

use super::{
    super::{
        compiled::{Rule, RuleKind, Target},
        digest,
        error::{Code, Related, Span},
        port,
        raw::{
            Field, List, Located, RawAllow, RawAllowPrivate, RawLocalAllow, RawPort, RawProtocol,
        },
    },
    Context,
    domains::{Demands, Judged},
    or,
};

/// A rule and its place.
pub(super) struct Placed {
    rule: Rule,
    span: Span,
}

impl Context<'_> {
    /// All rules, in the order of the file.
    pub(super) fn rules(
        &mut self,
        allow: Field<List<RawAllow>>,
        allow_private: Field<List<RawAllowPrivate>>,
        local: Field<List<RawLocalAllow>>,
    ) -> Vec<Rule> {
        let allow = or(allow, Vec::new());
        let allow_private = or(allow_private, Vec::new());
        let local = or(local, Vec::new());
        let spans = allow.iter().map(|rule| rule.span);
        let spans = spans.chain(allow_private.iter().map(|rule| rule.span));
        if self.too_many(spans.chain(local.iter().map(|rule| rule.span))) {
            return Vec::new();
        }
        let mut placed = Vec::with_capacity(allow.len());
        for raw in allow {
            placed.extend(self.allow(raw));
        }
        for raw in allow_private {
            placed.extend(self.allow_private(raw));
        }
        for raw in local {
            placed.extend(self.local_allow(raw));
        }
        self.refuse_too_many_doors(
            placed
                .iter()
                .filter(|placed| matches!(placed.rule.target, Target::Unix(_)))
                .map(|placed| placed.span),
        );
        placed.sort_by_key(|placed| placed.span);
        self.refuse_duplicates(&placed);
        self.refuse_metadata_names(placed.iter().map(|placed| (&placed.rule, placed.span)));
        placed.into_iter().map(|placed| placed.rule).collect()
    }

    fn allow(&mut self, raw: Located<RawAllow>) -> Option<Placed> {
        let Located {
            value:
                RawAllow {
                    cidr,
                    domain,
                    protocol,
                    ports,
                    tls,
                    ech,
                    records,
                    reason,
                },
            span,
        } = raw;
        let reason = self.prose("reason", reason.given());
        let kind = RuleKind::Allow;
        match (cidr, domain) {
            (Field::Absent, Field::Absent) => {
                let message = "`egress.allow` needs `cidr` or `domain`";
                let hint = "add a line like `cidr = \"185.199.108.0/22\"`";
                self.findings.hinted(Code::MissingKey, span, message, hint);
                None
            }
            (Field::Absent, domain) => {
                let demands = Demands {
                    protocol,
                    ports,
                    tls,
                    ech,
                    records,
                };
                let Judged {
                    target,
                    protocol,
                    ports,
                } = self.domain(&domain.given()?, demands, span)?;
                Some(self.place(span, kind, target, protocol, ports, reason))
            }
            (cidr, Field::Absent) => {
                let ports = self.ports("egress.allow", ports, span);
                self.only_with_domain(&tls, &ech, &records);
                let target = self.public(&cidr.given()?)?;
                let protocol = number(or(protocol, RawProtocol::Tcp));
                Some(self.place(span, kind, target, protocol, ports?, reason))
            }
            (_, domain) => {
                let place = domain.given().map_or(span, |domain| domain.span);
                let message = "`egress.allow` has both `cidr` and `domain`";
                let hint = "write two rules";
                self.findings.hinted(Code::Conflict, place, message, hint);
                None
            }
        }
    }

    fn allow_private(&mut self, raw: Located<RawAllowPrivate>) -> Option<Placed> {
        let Located {
            value:
                RawAllowPrivate {
                    cidr,
                    protocol,
                    ports,
                    reason,
                },
            span,
        } = raw;
        let path = "egress.allow_private";
        let cidr = self.required(path, "cidr", cidr, span);
        let protocol = self.required(path, "protocol", protocol, span);
        let ports = self.ports(path, ports, span);
        let reason = self.required(path, "reason", reason, span);
        if let Some(Located { value, span }) = &reason
            && value.trim().is_empty()
        {
            let hint = "say who needs it and for what";
            self.findings
                .hinted(Code::BadValue, *span, "`reason` is empty", hint);
        }
        let reason = self.prose("reason", reason);
        let target = cidr.and_then(|cidr| self.private(&cidr));
        let protocol = number(protocol?.value);
        Some(self.place(
            span,
            RuleKind::AllowPrivate,
            target?,
            protocol,
            ports?,
            reason,
        ))
    }

    pub(super) fn ports(
        &mut self,
        path: &'static str,
        field: Field<List<RawPort>>,
        table: Span,
    ) -> Option<Vec<(u16, u16)>> {
        let Located { value, span } = self.required(path, "ports", field, table)?;
        if value.is_empty() {
            let hint = "name each port, or write \"1-65535\" for all of them";
            self.findings
                .hinted(Code::BadPort, span, "`ports` is empty", hint);
            return None;
        }
        let wanted = value.len();
        let mut ranges = Vec::with_capacity(wanted);
        for Located { value, span } in value {
            match port::parse(&value) {
                Ok(range) => ranges.push(Located { value: range, span }),
                Err(error) => {
                    self.findings
                        .hinted(Code::BadPort, span, error.to_string(), error.hint());
                }
            }
        }
        (ranges.len() == wanted).then(|| port::merge(&ranges))
    }

    pub(super) fn place(
        &mut self,
        span: Span,
        kind: RuleKind,
        target: Target,
        protocol: u16,
        ports: Vec<(u16, u16)>,
        reason: String,
    ) -> Placed {
        let text = digest::rule_text(kind, &target, protocol, &ports);
        let rule = Rule {
            id: digest::rule_id(&text),
            kind,
            target,
            protocol,
            ports,
            reason,
            line: self.lines.line(span.start),
            text,
        };
        Placed { rule, span }
    }

    fn refuse_duplicates(&mut self, placed: &[Placed]) {
        let mut seen: HashMap<&str, &Placed> = HashMap::with_capacity(placed.len());
        for this in placed {
            let Some(first) = seen.get(this.rule.text.as_str()) else {
                seen.insert(&this.rule.text, this);
                continue;
            };
            let related = Related {
                span: first.span,
                label: "first here".to_owned(),
            };
            let message = format!("rule `{}` is there twice", this.rule.text);
            let hint = format!("line {} says the same: drop one", first.rule.line);
            self.findings
                .paired(Code::Duplicate, this.span, message, hint, related);
        }
    }

    /// Whether there are more rules than a policy may have; the first one beyond is reported.
    fn too_many(&mut self, mut spans: impl Iterator<Item = Span>) -> bool {
        let max = usize::try_from(RULES_PER_POLICY_MAX).unwrap_or(usize::MAX);
        let Some(beyond) = spans.nth(max) else {
            return false;
        };
        let message = format!("policy has more than {max} rules");
        let hint = "merge blocks, or split the tool into several policies";
        self.findings
            .hinted(Code::OutOfBounds, beyond, message, hint);
        true
    }
}

pub(super) const fn number(protocol: RawProtocol) -> u16 {
    match protocol {
        RawProtocol::Tcp => TCP,
        RawProtocol::Udp => UDP,
    }
}
