//! Why a policy allows or refuses one destination, and what would change that.
//!
//! The answer comes from `common::decide`, the code that enforces; this file only words it.

use std::net::IpAddr;

use common::{
    flow::{Address, Flow, TCP, UDP},
    special,
    verdict::{Reason, Verdict},
};

use super::{
    compiled::{CompiledPolicy, Prefix, Rule},
    digest::protocol_text,
    model::Model,
};

/// A destination on the command line: `ADDRESS:PORT`, `[v6]:PORT`, with `/tcp` or `/udp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Where.
    pub address: Address,
    /// Port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u16,
}

/// The text names no destination.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DestinationError {
    /// The protocol is another.
    #[error("protocol `{0}` is neither `tcp` nor `udp`\nhint: only TCP and UDP leave a fence")]
    Protocol(String),
    /// No port.
    #[error(
        "destination `{0}` has no port from 1 to 65535\nhint: write it like `192.0.2.7:443` or `[2001:db8::7]:443/udp`"
    )]
    Port(String),
    /// A name.
    #[error(
        "destination `{0}` is a name\nhint: this version knows addresses only; `getent ahosts {0}` prints them"
    )]
    Name(String),
    /// Not an address.
    #[error(
        "destination `{0}` is no address\nhint: write it like `192.0.2.7:443` or `[2001:db8::7]:443/udp`"
    )]
    Address(String),
}

impl std::str::FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (place, protocol) = match text.rsplit_once('/') {
            Some((place, "tcp")) => (place, TCP),
            Some((place, "udp")) => (place, UDP),
            Some((_, other)) => return Err(DestinationError::Protocol(other.to_owned())),
            None => (text, TCP),
        };
        let no_port = || DestinationError::Port(text.to_owned());
        let (host, port) = place.rsplit_once(':').ok_or_else(no_port)?;
        let v6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let ip: IpAddr = match v6 {
            Some(host) => host.parse().map(IpAddr::V6),
            None => host.parse().map(IpAddr::V4),
        }
        .map_err(|_not_an_address| match host {
            host if host.contains([':', '[', ']']) => DestinationError::Address(text.to_owned()),
            host if host.contains(|c: char| c.is_ascii_alphabetic()) => {
                DestinationError::Name(host.to_owned())
            }
            host => DestinationError::Address(host.to_owned()),
        })?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(no_port)?;
        Ok(Self {
            address: Address::from(ip),
            port,
            protocol,
        })
    }
}

/// What a policy says of one destination.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What was asked.
    pub flow: Flow,
    /// The kernel's verdict.
    pub verdict: Verdict,
    /// The rule that allows it.
    pub rule: Option<&'a Rule>,
    /// Name of the special-purpose range that holds the address.
    pub range: Option<&'static str>,
    /// What would allow it, or why nothing can.
    pub hint: Option<String>,
}

/// Asks the policy.
#[must_use]
pub fn explain<'a>(
    policy: &'a CompiledPolicy,
    model: &Model<'_>,
    destination: Destination,
) -> Explanation<'a> {
    let Destination {
        address,
        port,
        protocol,
    } = destination;
    let flow = model.flow(protocol, address, port);
    let verdict = model.decide(&flow);
    let rule = match verdict {
        Verdict::Allow(id) | Verdict::AllowNamed(id) => {
            policy.egress.rules.iter().find(|rule| rule.id == id)
        }
        Verdict::Resolver | Verdict::Observe(_) | Verdict::Deny(_) => None,
    };
    let hint = match verdict {
        Verdict::Allow(_) | Verdict::AllowNamed(_) | Verdict::Resolver => None,
        Verdict::Observe(reason) | Verdict::Deny(reason) => Some(remedy(reason, destination)),
    };
    Explanation {
        flow,
        verdict,
        rule,
        range: range_name(address),
        hint,
    }
}

/// The most specific special-purpose range that holds an address.
#[must_use]
pub fn range_name(address: Address) -> Option<&'static str> {
    special::refused_ranges()
        .filter(|range| Prefix::from(*range).contains(address))
        .max_by_key(|range| range.length)
        .map(|range| range.name)
}

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
        Reason::PrivateAddress if special::refusal_of_embedded(&address).is_some() => {
            "nothing opens it: the address carries a refused IPv4 address; name that one by `[[egress.allow_private]]`"
                .to_owned()
        }
        Reason::PrivateAddress => format!(
            "[[egress.allow_private]]\ncidr = \"{cidr}\"\nprotocol = \"{word}\"\nports = [{port}]\nreason = \"...\""
        ),
        Reason::LocalAddress if protocol == TCP => local_remedy(address, port),
        Reason::LocalAddress => "nothing opens it: UDP to this host has no door".to_owned(),
        Reason::DnsNotRedirected => {
            "nothing opens it: port 53 always goes to the agent's resolver".to_owned()
        }
        Reason::LimitConnections => "raise `connections` in `[egress.limits]`".to_owned(),
        Reason::LimitBytes => "raise `bytes_out` in `[egress.limits]`".to_owned(),
        Reason::NameNotAllowed
        | Reason::RecordNotAllowed
        | Reason::QueryLimit
        | Reason::NameBudget
        | Reason::QueryMalformed
        | Reason::PrivateAnswer
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
        | Reason::TableFull => "no line of a policy changes it".to_owned(),
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
