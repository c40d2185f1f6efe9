//! Puts to each refusal the lines of TOML that would allow it, and why one might not want to.

use common::{
    event::Hook,
    flow::{Address, TCP, UDP},
    verdict::Reason,
};

use super::control::protocol::Explained;
use crate::{
    observe::{event::Event, refused::Refusal},
    policy::{
        domain::DomainPattern,
        explain::{
            Destination, caution_for_name, range_name, remedy, remedy_for_name, remedy_for_pattern,
        },
    },
};

/// Explains one refusal.
#[must_use]
pub fn explained(refusal: Refusal) -> Explained {
    let said = said(&refusal.event);
    // What is no TOML says why nothing can be done.
    let (toml, advice) = match said {
        Some(said) if said.starts_with("[[") => (Some(said), caution(&refusal.event)),
        Some(said) => (None, said),
        None => (None, without_destination(refusal.event.reason).to_owned()),
    };
    Explained {
        refusal,
        toml,
        advice,
    }
}

fn said(event: &Event) -> Option<String> {
    if let Some(name) = event.name.as_deref() {
        let query = event.hook == Hook::Resolver;
        let port = (!query).then_some(event.port);
        let record = event.record.as_deref().filter(|_| query);
        return Some(remedy_for_name(event.reason, name, record, port));
    }
    let named = matches!(event.hook, Hook::Connect | Hook::Sendmsg | Hook::Egress);
    let carried = event.protocol == TCP || event.protocol == UDP;
    if !(named && carried && event.port != 0) {
        return None;
    }
    let granted = event.granted_for.as_deref();
    let granted = granted.and_then(|domain| DomainPattern::parse(domain).ok());
    if let (Reason::NotAllowed, Some(domain)) = (event.reason, granted) {
        return Some(remedy_for_pattern(&domain, event.protocol, event.port));
    }
    let destination = Destination {
        address: Address::from(event.address),
        port: event.port,
        protocol: event.protocol,
    };
    Some(remedy(event.reason, destination))
}

/// Why one might not want to allow it.
fn caution(event: &Event) -> String {
    if event.name.is_some() {
        return caution_for_name(event.reason).to_owned();
    }
    if let Some(domain) = &event.granted_for {
        return format!("it opens this port wherever `{domain}` resolves");
    }
    let range = range_name(Address::from(event.address));
    match (event.reason, range) {
        (Reason::LocalAddress, _) => {
            "whatever listens there trusts this host: the worker would speak as the host does".to_owned()
        }
        (Reason::PrivateAddress, Some(range)) => format!(
            "`{range}` is reached from this host and not from outside: what stands there is seldom made for strangers"
        ),
        (_, _) => "an address may be shared by many names: everything that it serves on this port is opened".to_owned(),
    }
}

fn without_destination(reason: Reason) -> &'static str {
    match reason {
        Reason::SocketType | Reason::Protocol => {
            "no line of a policy opens it: only TCP and UDP leave a fence"
        }
        Reason::Inbound => "no line of a policy opens it: nobody dials a worker",
        Reason::BindPort => {
            "`[[local.allow]]` with `loopback = \"own\"` lets processes of one session listen for each other, on free ports from 1024 on"
        }
        Reason::NotOwn => {
            "let the session's own process listen first; for a service of the host: `[[local.allow]]` with `tcp`"
        }
        Reason::SourceRouted => {
            "no line of a policy opens it: packets carry no options of their own making"
        }
        Reason::SourceForged => {
            "no line of a policy opens it: questions come from the address that their socket has"
        }
        Reason::UnixSocket => {
            "`[[local.allow]]` with `unix` names one socket of this host; abstract ones and all others stay shut"
        }
        Reason::TableFull => "the operator has to look: a table of the kernel side is full",
        Reason::UnknownWorker => "the agent has to look: the socket belongs to no session",
        Reason::LimitConnections => "raise `connections` in `[egress.limits]`",
        Reason::LimitBytes => "raise `bytes_out` in `[egress.limits]`",
        Reason::QueryLimit => "raise `queries_per_second` under `[dns]` in stockade.toml",
        Reason::QueryMalformed => "no line of a policy opens it: it is no query",
        Reason::GrantsFull => {
            "the operator has to look: a session holds too many addresses by name"
        }
        Reason::TlsNoName | Reason::TlsMalformed | Reason::TlsIncomplete => {
            "`tls = \"off\"` in the rule of the name, if another protocol is meant: any name on the address is then reachable"
        }
        Reason::TlsHidden => {
            "`ech = \"allow\"` in the rule of the name, or encrypted client hello switched off in the program"
        }
        Reason::NameNotAllowed
        | Reason::RecordNotAllowed
        | Reason::NameBudget
        | Reason::PrivateAnswer
        | Reason::TlsName
        | Reason::Resolver
        | Reason::Rule
        | Reason::DnsNotRedirected
        | Reason::LocalAddress
        | Reason::PrivateAddress
        | Reason::NotAllowed => "no line of a policy opens it",
    }
}
