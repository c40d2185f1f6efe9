//! What would let something refused pass: lines of TOML that can be pasted into the policy, or why
//! nothing can.

use std::{fmt::Display, net::IpAddr};

use common::{
    flow::{Address, TCP, UDP},
    special,
    verdict::Reason,
};

use super::{
    super::{
        compile::NOT_TLS_AT_FIRST,
        compiled::{Prefix, Record},
        digest::protocol_text,
        domain::{DomainName, DomainPattern},
        special_name,
    },
    asked::Destination,
};

/// The port that a remedy names where a query tells none.
const LIKELY_PORT: u16 = 443;
/// The rule for processes of one session.
const OWN_LOOPBACK: &str = "`[[local.allow]]` with `loopback = \"own\"`";

/// What would let a refused destination pass, in a form that can be pasted into the policy, or why
/// nothing can.
#[must_use]
pub fn remedy(reason: Reason, destination: Destination) -> String {
    let Destination {
        address,
        port,
        protocol,
    } = destination;
    let cidr = Prefix::host(address);
    let word = protocol_text(protocol);
    match reason {
        Reason::NotAllowed if protocol == UDP => {
            format!("[[egress.allow]]\ncidr = \"{cidr}\"\nprotocol = \"udp\"\nports = [{port}]")
        }
        Reason::NotAllowed => format!("[[egress.allow]]\ncidr = \"{cidr}\"\nports = [{port}]"),
        Reason::PrivateAddress | Reason::PrivateAnswer if special::refusal_of_embedded(&address).is_some() => {
            "nothing opens it: the address carries a refused IPv4 address; name that one by `[[egress.allow_private]]`"
                .to_owned()
        }
        Reason::PrivateAddress | Reason::PrivateAnswer => format!(
            "[[egress.allow_private]]\ncidr = \"{cidr}\"\nprotocol = \"{word}\"\nports = [{port}]\nreason = \"...\""
        ),
        Reason::LocalAddress if protocol == TCP => local_remedy(address, port),
        Reason::LocalAddress if IpAddr::from(address).is_loopback() => format!(
            "nothing opens it: UDP to this host has no door; processes of one session reach each other by {OWN_LOOPBACK}"
        ),
        Reason::LocalAddress => "nothing opens it: UDP to this host has no door".to_owned(),
        Reason::DnsNotRedirected => {
            "nothing opens it: port 53 always goes to the agent's resolver".to_owned()
        }
        Reason::LimitConnections
        | Reason::LimitBytes
        | Reason::NameNotAllowed
        | Reason::RecordNotAllowed
        | Reason::QueryLimit
        | Reason::NameBudget
        | Reason::QueryMalformed
        | Reason::GrantsFull
        | Reason::TlsName
        | Reason::TlsNoName
        | Reason::TlsHidden
        | Reason::TlsMalformed
        | Reason::TlsIncomplete
        | Reason::Resolver
        | Reason::Rule
        | Reason::UnknownWorker
        | Reason::Protocol
        | Reason::SourceRouted
        | Reason::BindPort
        | Reason::Inbound
        | Reason::SocketType
        | Reason::UnixSocket
        | Reason::NotOwn
        | Reason::SourceForged
        | Reason::TableFull => without_place(reason).to_owned(),
    }
}

fn local_remedy(address: Address, port: u16) -> String {
    if special::refusal_of_embedded(&address).is_some() {
        return "nothing opens it: the address carries an address of this host".to_owned();
    }
    match (special::classify(&address), IpAddr::from(address)) {
        (_, ip) if ip.is_unspecified() => {
            "nothing opens it: dial 127.0.0.1 or [::1] instead".to_owned()
        }
        (special::Special::Private, _) => format!(
            "[[egress.allow_private]]\ncidr = \"{}\"\nprotocol = \"tcp\"\nports = [{port}]\nreason = \"...\"",
            Prefix::host(address)
        ),
        (_, IpAddr::V4(v4)) => format!("[[local.allow]]\ntcp = \"{v4}:{port}\""),
        (_, IpAddr::V6(v6)) => format!("[[local.allow]]\ntcp = \"[{v6}]:{port}\""),
    }
}

/// What would let a refused name pass, where an event tells a name: a query that the resolver
/// refused (`record` is the type that was asked for), or a handshake that the kernel refused (`port`
/// is the connection's). Lines of TOML begin with `[[`; all else says why there is none.
///
/// The name may be a stranger's: one that no rule can hold is not repeated.
#[must_use]
pub fn remedy_for_name(
    reason: Reason,
    name: &str,
    record: Option<&str>,
    port: Option<u16>,
) -> String {
    let asks_for_rule = matches!(
        reason,
        Reason::NameNotAllowed | Reason::RecordNotAllowed | Reason::TlsName
    );
    if !asks_for_rule {
        return without_place(reason).to_owned();
    }
    let Ok(name) = DomainName::from_query(name) else {
        return "nothing opens it: it is no name that a rule can hold".to_owned();
    };
    let opened = for_destination(&name, TCP, port.unwrap_or(LIKELY_PORT));
    let Some(record) = record.filter(|_| opened.starts_with("[[")) else {
        return opened;
    };
    match Record::from_word(record) {
        // Clients ask for service bindings beside addresses and do without.
        Some(Record::Https | Record::Svcb) if reason == Reason::NameNotAllowed => opened,
        Some(Record::A | Record::Aaaa) => opened,
        Some(record) => format!(
            "[[egress.allow]]\ndomain = \"{name}\"\nrecords = [\"{}\"]",
            record.word()
        ),
        None => "nothing opens it: no rule answers records of this type".to_owned(),
    }
}

/// The lines that open another port of a name or wildcard that a rule holds already.
#[must_use]
pub fn remedy_for_pattern(pattern: &DomainPattern, protocol: u16, port: u16) -> String {
    domain_toml(pattern, protocol, port)
}

/// A rule that opens a name on a port, or why none can.
pub(super) fn for_destination(name: &DomainName, protocol: u16, port: u16) -> String {
    let pattern = DomainPattern::from(name.clone());
    if let Some(special) = special_name::refusal(&pattern) {
        return format!("nothing opens it: `{name}` {}", special.why);
    }
    if special_name::metadata(&pattern).is_some() {
        return format!(
            "nothing opens `{name}` alone: metadata hands out credentials, and its address has to be opened by `[[egress.allow_private]]` too"
        );
    }
    domain_toml(name, protocol, port)
}

/// A rule for a name, with the words that its ports ask for.
fn domain_toml(name: &impl Display, protocol: u16, port: u16) -> String {
    let udp = if protocol == UDP {
        "protocol = \"udp\"\n"
    } else {
        ""
    };
    let tls = if protocol == TCP && NOT_TLS_AT_FIRST.contains(&port) {
        "\ntls = \"off\""
    } else {
        ""
    };
    format!("[[egress.allow]]\ndomain = \"{name}\"\n{udp}ports = [{port}]{tls}")
}

/// Why one might not want to allow a name that was refused.
#[must_use]
pub fn caution_for_name(reason: Reason) -> &'static str {
    if reason == Reason::RecordNotAllowed {
        "records other than addresses carry text of the zone's owner: name the types that are needed, for names that are trusted"
    } else if reason == Reason::TlsName {
        "the server shares its address with an allowed name: a rule for this name opens it wherever it resolves"
    } else {
        "whoever owns the name says where it points, and learns what is asked below it"
    }
}

/// What is to be said where no line can be written.
fn without_place(reason: Reason) -> &'static str {
    match reason {
        Reason::LimitConnections => "raise `connections` in `[egress.limits]`",
        Reason::LimitBytes => "raise `bytes_out` in `[egress.limits]`",
        Reason::QueryLimit => {
            "no line of a policy changes it: the tool asks the resolver too often; let it keep its answers"
        }
        Reason::NameBudget => {
            "no line of a policy changes it: too many new names under a wildcard look like a message; a name of its own in a rule is not counted"
        }
        Reason::QueryMalformed => {
            "no line of a policy changes it: the resolver takes plain queries of class IN for one name"
        }
        Reason::PrivateAnswer => {
            "open the address by `[[egress.allow_private]]`, with cidr, protocol, ports and reason; the name's own rule stays"
        }
        Reason::GrantsFull => {
            "no line of a policy changes it: the session holds grants for as many addresses as it may"
        }
        Reason::TlsNoName => {
            "the client has to send a server name (SNI): dial the name, not its address. For another protocol the rule says `tls = \"off\"`: any name on that address is then reachable"
        }
        Reason::TlsHidden => {
            "switch encrypted client hello (and its grease) off in the client, or let the rule say `ech = \"allow\"`: the name that is seen is then not always the name that is reached"
        }
        Reason::TlsMalformed => {
            "what was sent first is no TLS client hello: for another protocol the rule says `tls = \"off\"`: any name on that address is then reachable"
        }
        Reason::TlsIncomplete => {
            "the client hello never came in one piece: let the client send a shorter one, or let the rule say `ech = \"allow\"`, which takes it as soon as the name is seen, with the weaker guarantee"
        }
        Reason::NameNotAllowed | Reason::RecordNotAllowed | Reason::TlsName => {
            "a rule has to name it: `[[egress.allow]]` with `domain`"
        }
        Reason::BindPort => {
            "processes of one session may listen for each other on ports from 1024 on: `[[local.allow]]` with `loopback = \"own\"`; to others nothing opens a port"
        }
        Reason::NotOwn => {
            "the policy opens loopback among the session's own processes, and none of them is there: for a service of the host `[[local.allow]]` with `tcp`"
        }
        Reason::UnixSocket => "a rule has to name it: `[[local.allow]]` with `unix`",
        Reason::NotAllowed
        | Reason::PrivateAddress
        | Reason::LocalAddress
        | Reason::DnsNotRedirected
        | Reason::Resolver
        | Reason::Rule
        | Reason::UnknownWorker
        | Reason::Protocol
        | Reason::SourceRouted
        | Reason::SourceForged
        | Reason::Inbound
        | Reason::SocketType
        | Reason::TableFull => "no line of a policy changes it",
    }
}
