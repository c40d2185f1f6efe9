//! What a rule names: public blocks, doors into special-purpose blocks, this host, domains.
//!
//! The special-purpose ranges themselves are the kernel's, in `common::special`.

use std::net::{IpAddr, SocketAddr};

use common::{
    flow::Address,
    special::{self, METADATA, Special},
};

use super::{
    super::{
        compiled::{DomainRule, Ech, Prefix, Record, Target, Tls},
        domain::DomainPattern,
        error::{Code, Span},
        port,
        raw::{Field, List, Located, RawEch, RawPort, RawRecord, RawTls},
    },
    Context,
};

/// Ports on which TLS does not begin with the first byte: a domain rule must say what it means.
const NOT_TLS_AT_FIRST: &[u16] = &[22, 25, 80, 587, 3306, 5432, 6379];

/// What a domain rule demands of the connection and the resolver.
pub(super) struct Demands {
    pub(super) tls: Field<RawTls>,
    pub(super) ech: Field<RawEch>,
    pub(super) records: Field<List<RawRecord>>,
}

impl Context<'_> {
    fn prefix(&mut self, cidr: &Located<String>) -> Option<Prefix> {
        match Prefix::parse(&cidr.value) {
            Ok(prefix) => Some(prefix),
            Err(error) => {
                self.findings
                    .hinted(Code::BadAddress, cidr.span, error.to_string(), error.hint());
                None
            }
        }
    }

    pub(super) fn public(&mut self, cidr: &Located<String>) -> Option<Target> {
        let prefix = self.prefix(cidr)?;
        let reachable =
            special::reachable_ranges().any(|range| Prefix::from(range).covers(&prefix));
        let refused =
            special::refused_ranges().find(|range| Prefix::from(*range).overlaps(&prefix));
        let Some(refused) = refused.filter(|_| !reachable) else {
            return Some(Target::Prefix(prefix));
        };
        let block = Prefix::from(refused);
        if block.covers(&prefix) {
            let message = format!("`{prefix}` lies in {block}: {}", refused.name);
            let hint = if local_block(&prefix) {
                "this host is reached by `[[local.allow]]`: tcp = \"127.0.0.1:5432\"".to_owned()
            } else {
                format!(
                    "if it is meant, use the door for it:\n[[egress.allow_private]]\ncidr = \"{prefix}\"\nprotocol, ports and reason"
                )
            };
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
        } else {
            let message = format!("`{prefix}` holds {block}: {}", refused.name);
            let hint = "name smaller public blocks; special-purpose addresses are opened by `[[egress.allow_private]]` only";
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
        }
        None
    }

    pub(super) fn private(&mut self, cidr: &Located<String>) -> Option<Target> {
        let prefix = self.prefix(cidr)?;
        if local_block(&prefix) {
            let message = format!("`{prefix}` is this host");
            let hint = "this host is reached by `[[local.allow]]`: tcp = \"127.0.0.1:5432\"";
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
            return None;
        }
        if !special::refused_ranges().any(|range| Prefix::from(range).covers(&prefix)) {
            let message = format!("`{prefix}` lies in no single special-purpose block");
            let hint = "public blocks belong under `[[egress.allow]]`";
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
            return None;
        }
        let metadata = METADATA.iter().find(|address| prefix.contains(**address));
        if let Some(metadata) = metadata.filter(|_| prefix.length < 128) {
            let message = format!("`{prefix}` holds the cloud metadata address {metadata}");
            let hint = format!(
                "metadata hands out credentials: name smaller blocks beside it, or \"{}\" itself",
                Prefix::host(*metadata)
            );
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
            return None;
        }
        Some(Target::Prefix(prefix))
    }

    pub(super) fn local(&mut self, tcp: &Located<String>) -> Option<(Target, u16)> {
        let bad = |context: &mut Self, code, message: String, hint: &str| {
            context.findings.hinted(code, tcp.span, message, hint);
            None
        };
        let text = &tcp.value;
        let Ok(socket) = text.parse::<SocketAddr>() else {
            let message = format!("`{text}` is no address and port");
            let hint =
                "write it like \"127.0.0.1:5432\" or \"[::1]:5432\"; names are not looked up";
            return bad(self, Code::BadAddress, message, hint);
        };
        if socket.ip() != socket.ip().to_canonical() {
            let message = format!("`{text}` holds an IPv4 address in IPv6 form");
            return bad(self, Code::BadAddress, message, "write it as IPv4");
        }
        if let Err(error) = port::parse(&RawPort::Number(socket.port().into())) {
            return bad(self, Code::BadPort, error.to_string(), &error.hint());
        }
        let address = Address::from(socket.ip());
        if socket.ip().is_unspecified() {
            let message = format!("`{text}` names no address");
            return bad(self, Code::BadAddress, message, "write 127.0.0.1 or [::1]");
        }
        if special::classify(&address) == Special::Private {
            let message = format!("`{text}` is a private or special-purpose address");
            let hint = "use `[[egress.allow_private]]`; it opens addresses of this host too";
            return bad(self, Code::SpecialAddress, message, hint);
        }
        Some((Target::Prefix(Prefix::host(address)), socket.port()))
    }

    pub(super) fn domain(
        &mut self,
        domain: &Located<String>,
        demands: &Demands,
        ports: Option<&[(u16, u16)]>,
    ) -> Option<Target> {
        let Demands { tls, ech, records } = demands;
        if let (Field::Absent, Some(ports)) = (tls, ports) {
            self.need_tls_word(domain.span, ports);
        }
        if let (Field::Given(tls), Field::Given(ech)) = (tls, ech)
            && tls.value == RawTls::Off
            && ech.value == RawEch::Allow
        {
            let message = "`ech` says nothing where `tls` is off";
            let hint = "drop one of the two";
            self.findings
                .hinted(Code::Conflict, ech.span, message, hint);
        }
        let records = match records {
            Field::Given(records) => self.records(records),
            Field::Absent | Field::Unreadable => Record::DEFAULT.to_vec(),
        };
        match DomainPattern::parse(&domain.value) {
            Ok(pattern) => Some(Target::Domain(DomainRule {
                pattern,
                tls: match tls {
                    Field::Given(tls) if tls.value == RawTls::Off => Tls::Off,
                    _ => Tls::Require,
                },
                ech: match ech {
                    Field::Given(ech) if ech.value == RawEch::Allow => Ech::Allow,
                    _ => Ech::Refuse,
                },
                records,
            })),
            Err(error) => {
                let (message, hint) = (error.to_string(), error.hint());
                self.findings
                    .hinted(Code::BadDomain, domain.span, message, hint);
                None
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

    fn records(&mut self, records: &Located<List<RawRecord>>) -> Vec<Record> {
        if records.value.is_empty() {
            let hint = "drop the key, or write it like `records = [\"A\", \"AAAA\"]`";
            self.findings
                .hinted(Code::BadValue, records.span, "`records` is empty", hint);
        }
        for (at, record) in records.value.iter().enumerate() {
            let earlier = records.value.iter().take(at);
            if earlier.into_iter().any(|other| other.value == record.value) {
                let message = "the record is listed twice";
                self.findings.add(Code::Duplicate, record.span, message);
            }
        }
        let mut records: Vec<Record> = records.value.iter().map(|r| record(r.value)).collect();
        records.sort_unstable();
        records.dedup();
        records
    }
}

/// Whether the block touches loopback or the unspecified address, which no `egress` rule opens.
fn local_block(prefix: &Prefix) -> bool {
    let loopback4 = Prefix::new(Address::from_v4([127, 0, 0, 0]), 104);
    let unspecified4 = Prefix::host(Address::from_v4([0, 0, 0, 0]));
    let [unspecified6, loopback6] =
        [0_u128, 1].map(|bits| Prefix::host(Address::from(IpAddr::from(bits.to_be_bytes()))));
    [loopback4, unspecified4, unspecified6, loopback6]
        .iter()
        .any(|block| block.overlaps(prefix))
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
