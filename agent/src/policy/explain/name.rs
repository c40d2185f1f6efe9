//! What becomes of a name: whether the resolver answers it, what its addresses are then granted,
//! and what is demanded of the connection.
//!
//! Nothing is looked up: the verdict is that of an address which only the name opens, or of the
//! addresses that the session holds grants for.

use std::{net::Ipv6Addr, time::Duration};

use common::{
    flow::{Address, Flow, TCP},
    rule::{ECH, PortRange},
    special,
    verdict::{Reason, Verdict},
};

use super::{
    super::{
        compiled::{CompiledPolicy, Record, Rule},
        domain::DomainName,
        model::Model,
    },
    asked::NamedDestination,
    remedy,
};

/// A grant that a session holds for an address of the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownGrant {
    /// The address.
    pub address: Address,
    /// How long it still holds.
    pub expires_in: Duration,
}

/// A grant, and what it opens.
#[derive(Clone, Copy, Debug)]
pub struct GrantHeld {
    /// The grant.
    pub grant: KnownGrant,
    /// The verdict at its address.
    pub verdict: Verdict,
}

/// What is demanded of a connection that passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// A TLS handshake for an allowed name, first of all.
    Handshake,
    /// The same, and it may hide its name.
    HiddenHandshake,
    /// Nothing: another protocol is spoken.
    NoHandshake,
    /// Nothing: no name is looked for in datagrams.
    Datagrams,
}

impl Demand {
    /// One sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Handshake => {
                "require: the first data must be a TLS handshake for a name that a rule opens on this port"
            }
            Self::HiddenHandshake => {
                "require, ech = allow: a TLS handshake comes first, but the name that is seen is not always the name that is reached"
            }
            Self::NoHandshake => "off: any name on that address is reachable on this port",
            Self::Datagrams => "none: any name on that address is reachable by udp on this port",
        }
    }

    /// Label for programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Handshake => "require",
            Self::HiddenHandshake => "require_ech_allowed",
            Self::NoHandshake => "off",
            Self::Datagrams => "none_udp",
        }
    }
}

/// What a policy says of one name.
#[derive(Clone, Debug)]
pub struct NameExplanation<'a> {
    /// What was asked.
    pub destination: NamedDestination,
    /// The verdict: of the resolver where it refuses the name, else of the kernel at an address
    /// that nothing but the name opens.
    pub verdict: Verdict,
    /// The rule that allows it.
    pub rule: Option<&'a Rule>,
    /// Every rule that covers the name.
    pub covering: Vec<&'a Rule>,
    /// The records that the resolver answers, ordered.
    pub records: Vec<Record>,
    /// The one family of addresses for which the verdict holds, where the other is refused.
    pub only: Option<Record>,
    /// What is demanded of the connection, where it passes by a rule.
    pub demand: Option<Demand>,
    /// Grants that were told to [`explain_name`], each with the verdict at its address.
    pub held: Vec<GrantHeld>,
    /// What would allow it, or why nothing can.
    pub hint: Option<String>,
}

/// Asks the policy about a name. `known` are the grants that a session holds for the name's
/// addresses, if the caller knows.
#[must_use]
pub fn explain_name<'a>(
    policy: &'a CompiledPolicy,
    model: &Model<'a>,
    destination: NamedDestination,
    known: &[KnownGrant],
) -> NameExplanation<'a> {
    let NamedDestination {
        name,
        port,
        protocol,
    } = &destination;
    let covering: Vec<&Rule> = policy
        .egress
        .names
        .covering(&policy.egress.rules, name)
        .collect();
    let mut records: Vec<Record> = covering
        .iter()
        .filter_map(|rule| rule.domain())
        .flat_map(|domain| domain.records.iter().copied())
        .collect();
    records.sort_unstable();
    records.dedup();
    let at = |address| {
        let flow = model.flow(*protocol, address, *port);
        verdict_at(policy, model, name, &flow)
    };
    let (v4, v6) = (at(stand_in_v4(model)), at(stand_in_v6(model)));
    let (verdict, only) = match (v4.passes(), v6.passes()) {
        (true, false) => (v4, Some(Record::A)),
        (false, true) => (v6, Some(Record::Aaaa)),
        (true, true) | (false, false) => (v4, None),
    };
    let rule = match verdict {
        Verdict::Allow(id) | Verdict::AllowNamed(id) | Verdict::AllowOwn(id) => {
            covering.iter().copied().find(|rule| rule.id == id)
        }
        Verdict::Resolver | Verdict::Observe(_) | Verdict::Deny(_) => None,
    };
    let held = known
        .iter()
        .map(|grant| GrantHeld {
            grant: *grant,
            verdict: at(grant.address),
        })
        .collect();
    NameExplanation {
        demand: demand(verdict, &covering, *protocol, *port),
        hint: hint(verdict, &destination),
        verdict,
        rule,
        covering,
        records,
        only,
        held,
        destination,
    }
}

/// The verdict on a flow to an address that DNS returned for the name: the resolver's refusal, or
/// the kernel's decision with the grants that the resolver gives.
pub fn verdict_at(
    policy: &CompiledPolicy,
    model: &Model<'_>,
    name: &DomainName,
    flow: &Flow,
) -> Verdict {
    let record = match flow.address.v4() {
        Some(_) => Record::A,
        None => Record::Aaaa,
    };
    let mut covered = false;
    let mut answered = false;
    let mut ranges: Vec<PortRange> = Vec::new();
    for rule in policy.egress.names.covering(&policy.egress.rules, name) {
        covered = true;
        if rule.domain().is_some_and(|domain| domain.answers(record)) {
            answered = true;
            ranges.extend(rule.grant_ranges());
        }
    }
    let verdict = model.clone().with_grants(flow.address, ranges).decide(flow);
    // Where only the missing grant is the reason, the resolver's refusal is the clearer one.
    let unnamed = match (covered, answered) {
        (false, _) => Reason::NameNotAllowed,
        (true, false) => Reason::RecordNotAllowed,
        (true, true) => Reason::NotAllowed,
    };
    match verdict {
        Verdict::Deny(Reason::NotAllowed) => Verdict::Deny(unnamed),
        Verdict::Observe(Reason::NotAllowed) => Verdict::Observe(unnamed),
        Verdict::Allow(_)
        | Verdict::AllowNamed(_)
        | Verdict::AllowOwn(_)
        | Verdict::Resolver
        | Verdict::Observe(_)
        | Verdict::Deny(_) => verdict,
    }
}

fn demand(verdict: Verdict, covering: &[&Rule], protocol: u16, port: u16) -> Option<Demand> {
    match verdict {
        Verdict::AllowNamed(_) => {
            let hidden = covering
                .iter()
                .flat_map(|rule| rule.grant_ranges())
                .any(|range| range.flags & ECH != 0 && (range.low..=range.high).contains(&port));
            Some(if hidden {
                Demand::HiddenHandshake
            } else {
                Demand::Handshake
            })
        }
        Verdict::Allow(_) if protocol == TCP => Some(Demand::NoHandshake),
        Verdict::Allow(_) => Some(Demand::Datagrams),
        Verdict::AllowOwn(_) | Verdict::Resolver | Verdict::Observe(_) | Verdict::Deny(_) => None,
    }
}

fn hint(verdict: Verdict, destination: &NamedDestination) -> Option<String> {
    let NamedDestination {
        name,
        port,
        protocol,
    } = destination;
    match verdict {
        Verdict::Observe(reason) | Verdict::Deny(reason) => {
            let unnamed = matches!(
                reason,
                Reason::NotAllowed | Reason::NameNotAllowed | Reason::RecordNotAllowed
            );
            Some(if unnamed {
                remedy::for_destination(name, *protocol, *port)
            } else {
                remedy::remedy_for_name(reason, name.as_str(), None, Some(*port))
            })
        }
        Verdict::Allow(_) | Verdict::AllowNamed(_) | Verdict::AllowOwn(_) | Verdict::Resolver => {
            None
        }
    }
}

/// A public address that no prefix rule and no host has: what the name alone opens.
fn stand_in_v4(model: &Model<'_>) -> Address {
    let all = (1..=223_u8).map(|first| Address::from_v4([first, 1, 1, 1]));
    free(model, all).unwrap_or(Address::from_v4([1, 1, 1, 1]))
}

fn stand_in_v6(model: &Model<'_>) -> Address {
    let place = |first: u16| Address(Ipv6Addr::new(first, 1, 1, 1, 1, 1, 1, 1).octets());
    free(model, (0x2400..=0x2fff_u16).rev().map(place)).unwrap_or(place(0x2a00))
}

fn free(model: &Model<'_>, mut all: impl Iterator<Item = Address>) -> Option<Address> {
    all.find(|address| special::classify(address) == special::Special::No && !model.knows(*address))
}
