//! Domain rules: what may be named, and what a rule demands of the connection and the resolver.

use common::{
    flow::{TCP, UDP},
    name::TLS_NAME_BYTES_MAX,
};

use super::{
    super::{
        compiled::{DomainRule, Ech, Prefix, Record, Rule, RuleKind, Target, Tls},
        domain::DomainPattern,
        error::{Code, Span},
        names,
        raw::{Field, List, Located, RawEch, RawPort, RawProtocol, RawRecord, RawTls},
        special_name::{self, Special},
    },
    Context,
    rules::number,
};

/// Ports on which TLS does not begin with the first byte: a domain rule must say what it means.
pub(in crate::policy) const NOT_TLS_AT_FIRST: &[u16] = &[22, 25, 80, 587, 3306, 5432, 6379];

/// What stands beside `domain` in a rule.
pub(super) struct Demands {
    pub(super) protocol: Field<RawProtocol>,
    pub(super) ports: Field<List<RawPort>>,
    pub(super) tls: Field<RawTls>,
    pub(super) ech: Field<RawEch>,
    pub(super) records: Field<List<RawRecord>>,
}

/// A domain rule as far as it was judged.
pub(super) struct Judged {
    pub(super) target: Target,
    pub(super) protocol: u16,
    pub(super) ports: Vec<(u16, u16)>,
}

impl Context<'_> {
    pub(super) fn domain(
        &mut self,
        domain: &Located<String>,
        demands: Demands,
        rule: Span,
    ) -> Option<Judged> {
        let Demands {
            protocol,
            ports,
            tls,
            ech,
            records,
        } = demands;
        let records = self.records(&records);
        let pattern = self.pattern(domain);
        if !records.iter().any(|record| record.is_address()) {
            self.refuse_beside_records(&protocol, &ports, &tls, &ech);
            return Some(Judged {
                target: Target::Domain(DomainRule {
                    pattern: pattern?,
                    tls: Tls::Require,
                    ech: Ech::Refuse,
                    records,
                }),
                protocol: TCP,
                ports: Vec::new(),
            });
        }
        let protocol = protocol.given().map_or(TCP, |field| number(field.value));
        let ports = self.ports("egress.allow", ports, rule);
        let (tls, ech) = if protocol == UDP {
            self.udp_demands(&tls, &ech)
        } else {
            self.tcp_demands(&tls, &ech, ports.as_deref(), domain.span)
        };
        let (pattern, ports) = (pattern?, ports?);
        if protocol == TCP && tls == Tls::Require && !names::fits(&pattern) {
            let message = format!(
                "`{pattern}` is too long for the check of TLS names: {TLS_NAME_BYTES_MAX} bytes is the most"
            );
            let hint = "name a wildcard above it, or add `tls = \"off\"` (any name on that address is then reachable)";
            self.findings
                .hinted(Code::BadDomain, domain.span, message, hint);
        }
        Some(Judged {
            target: Target::Domain(DomainRule {
                pattern,
                tls,
                ech,
                records,
            }),
            protocol,
            ports,
        })
    }

    fn pattern(&mut self, domain: &Located<String>) -> Option<DomainPattern> {
        let pattern = match DomainPattern::parse(&domain.value) {
            Ok(pattern) => pattern,
            Err(error) => {
                let (message, hint) = (error.to_string(), error.hint());
                self.findings
                    .hinted(Code::BadDomain, domain.span, message, hint);
                return None;
            }
        };
        if let Some(Special { why, hint }) = special_name::refusal(&pattern) {
            let message = format!("`{pattern}` {why}");
            self.findings
                .hinted(Code::BadDomain, domain.span, message, hint);
        }
        Some(pattern)
    }

    fn tcp_demands(
        &mut self,
        tls: &Field<RawTls>,
        ech: &Field<RawEch>,
        ports: Option<&[(u16, u16)]>,
        domain: Span,
    ) -> (Tls, Ech) {
        if let (Field::Absent, Some(ports)) = (tls, ports) {
            self.need_tls_word(domain, ports);
        }
        let asked = match tls {
            Field::Given(Located {
                value: RawTls::Off, ..
            }) => Tls::Off,
            Field::Given(_) | Field::Absent | Field::Unreadable => Tls::Require,
        };
        let hidden = match ech {
            Field::Given(Located {
                value: RawEch::Allow,
                span,
            }) => {
                if asked == Tls::Off {
                    let message = "`ech` says nothing where `tls` is off";
                    self.findings
                        .hinted(Code::Conflict, *span, message, "drop one of the two");
                }
                Ech::Allow
            }
            Field::Given(_) | Field::Absent | Field::Unreadable => Ech::Refuse,
        };
        (asked, hidden)
    }

    /// No handshake is looked for in datagrams: a word that asks for one is a misunderstanding.
    fn udp_demands(&mut self, tls: &Field<RawTls>, ech: &Field<RawEch>) -> (Tls, Ech) {
        if let Field::Given(Located {
            value: RawTls::Require,
            span,
        }) = tls
        {
            let message = "`tls` can not be required of udp";
            let hint = "QUIC hides its handshake: drop the key (any name on that address is then reachable by udp), or drop the udp rule: clients fall back to tcp";
            self.findings.hinted(Code::Conflict, *span, message, hint);
        }
        if let Field::Given(Located { span, .. }) = ech {
            let message = "`ech` says nothing of udp";
            let hint = "no name is looked for in datagrams: drop the key";
            self.findings.hinted(Code::Conflict, *span, message, hint);
        }
        (Tls::Off, Ech::Refuse)
    }

    /// A rule that gives no address opens no port.
    fn refuse_beside_records(
        &mut self,
        protocol: &Field<RawProtocol>,
        ports: &Field<List<RawPort>>,
        tls: &Field<RawTls>,
        ech: &Field<RawEch>,
    ) {
        let beside = [
            ("protocol", span_of(protocol)),
            ("ports", span_of(ports)),
            ("tls", span_of(tls)),
            ("ech", span_of(ech)),
        ];
        for (key, span) in beside {
            if let Some(span) = span {
                let message =
                    format!("`{key}` says nothing where `records` has neither \"A\" nor \"AAAA\"");
                let hint = "the rule gives no address to connect to: drop the key, or add \"A\" and \"AAAA\" to `records`";
                self.findings.hinted(Code::Conflict, span, message, hint);
            }
        }
    }

    pub(super) fn only_with_domain(
        &mut self,
        tls: &Field<RawTls>,
        ech: &Field<RawEch>,
        records: &Field<List<RawRecord>>,
    ) {
        let given = [
            ("tls", span_of(tls)),
            ("ech", span_of(ech)),
            ("records", span_of(records)),
        ];
        for (key, span) in given {
            if let Some(span) = span {
                let message = format!("`{key}` belongs to a rule with `domain`");
                let hint = "an address has no name to check: drop it";
                self.findings.hinted(Code::Conflict, span, message, hint);
            }
        }
    }

    fn need_tls_word(&mut self, span: Span, ports: &[(u16, u16)]) {
        let odd = NOT_TLS_AT_FIRST
            .iter()
            .find(|port| ports.iter().any(|(low, high)| (low..=high).contains(port)));
        if let Some(port) = odd {
            let message = format!("port {port} of a domain rule needs an explicit `tls`");
            let hint = "what is spoken there seldom begins with TLS: add `tls = \"off\"` (any name on that address is then reachable), or `tls = \"require\"`";
            self.findings.hinted(Code::MissingKey, span, message, hint);
        }
    }

    fn records(&mut self, records: &Field<List<RawRecord>>) -> Vec<Record> {
        let Field::Given(records) = records else {
            return Record::DEFAULT.to_vec();
        };
        if records.value.is_empty() {
            let hint = "drop the key, or write it like `records = [\"A\", \"AAAA\"]`";
            self.findings
                .hinted(Code::BadValue, records.span, "`records` is empty", hint);
            return Record::DEFAULT.to_vec();
        }
        for (at, record) in records.value.iter().enumerate() {
            let earlier = records.value.iter().take(at);
            if earlier.into_iter().any(|other| other.value == record.value) {
                let message = "the record is listed twice";
                self.findings.add(Code::Duplicate, record.span, message);
            }
        }
        let mut list: Vec<Record> = records.value.iter().map(|r| record(r.value)).collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    /// Names that serve cloud metadata, unless the policy opens an address of metadata anyway.
    pub(super) fn refuse_metadata_names<'a>(
        &mut self,
        rules: impl Iterator<Item = (&'a Rule, Span)> + Clone,
    ) {
        let opened = rules.clone().any(|(rule, _)| match &rule.target {
            Target::Prefix(prefix) => rule.kind == RuleKind::AllowPrivate && is_metadata(prefix),
            Target::Domain(_) | Target::Unix(_) | Target::Own => false,
        });
        if opened {
            return;
        }
        for (rule, span) in rules {
            let named = rule
                .domain()
                .and_then(|domain| special_name::metadata(&domain.pattern));
            if let Some(name) = named {
                let message = format!("`{}` covers the cloud metadata name `{name}`", place(rule));
                let hint = "metadata hands out credentials: drop the rule. If it is meant, open the address too, by a rule `[[egress.allow_private]]` with cidr = \"169.254.169.254/32\"";
                self.findings
                    .hinted(Code::SpecialAddress, span, message, hint);
            }
        }
    }
}

fn place(rule: &Rule) -> &str {
    rule.domain().map_or("", |domain| domain.pattern.as_str())
}

fn is_metadata(prefix: &Prefix) -> bool {
    common::special::METADATA
        .iter()
        .any(|address| prefix.contains(*address))
}

fn span_of<T>(field: &Field<T>) -> Option<Span> {
    match field {
        Field::Given(given) => Some(given.span),
        Field::Absent | Field::Unreadable => None,
    }
}

const fn record(raw: RawRecord) -> Record {
    match raw {
        RawRecord::A => Record::A,
        RawRecord::Aaaa => Record::Aaaa,
        RawRecord::Mx => Record::Mx,
        RawRecord::Txt => Record::Txt,
        RawRecord::Srv => Record::Srv,
        RawRecord::Caa => Record::Caa,
        RawRecord::Https => Record::Https,
        RawRecord::Svcb => Record::Svcb,
    }
}
