//! The host's reader of rules for `common::decide`: a compiled policy and the addresses of a host.
//!
//! It answers what the kernel would. It does no I/O: the caller says which addresses are the host's.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    decide::{Quota, Rules, Scope, decide},
    flow::{Address, DNS_PORT, Flow, Place, Shape},
    id::{Generation, PolicyId},
    rule::{Match, PortRange, TLS},
    verdict::Verdict,
};

use super::compiled::{CompiledPolicy, Prefix, TableEntry};

/// One policy on one host.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    policy: &'a CompiledPolicy,
    /// Lengths that the table has, longest first.
    lengths: Vec<u8>,
    hosts: BTreeSet<Address>,
    /// What the session is taken to hold grants for.
    grants: BTreeMap<Address, Vec<PortRange>>,
}

impl<'a> Model<'a> {
    /// A policy on a host that has these addresses.
    #[must_use]
    pub fn new(policy: &'a CompiledPolicy, hosts: BTreeSet<Address>) -> Self {
        let lengths: BTreeSet<u8> = policy
            .egress
            .table
            .iter()
            .map(|entry| entry.prefix.length)
            .collect();
        Self {
            policy,
            lengths: lengths.into_iter().rev().collect(),
            hosts,
            grants: BTreeMap::new(),
        }
    }

    /// The same with unexpired grants for an address, in place of those it had there.
    #[must_use]
    pub fn with_grants(
        mut self,
        address: Address,
        ranges: impl IntoIterator<Item = PortRange>,
    ) -> Self {
        self.grants.insert(address, ranges.into_iter().collect());
        self
    }

    /// Whether a prefix rule covers the address, or it is this host's.
    pub(super) fn knows(&self, address: Address) -> bool {
        self.hosts.contains(&address) || self.longest(address).is_some()
    }

    fn longest(&self, address: Address) -> Option<&'a TableEntry> {
        let table = &self.policy.egress.table;
        self.lengths.iter().find_map(|length| {
            let prefix = Prefix::new(address, *length);
            let at = table.binary_search_by_key(&prefix, |entry| entry.prefix);
            at.ok().and_then(|at| table.get(at))
        })
    }

    /// What a plain socket that talks to this destination makes.
    #[must_use]
    pub fn flow(&self, protocol: u16, address: Address, port: u16) -> Flow {
        let place = if self.hosts.contains(&address) {
            Place::Host
        } else {
            Place::Remote
        };
        Flow {
            protocol,
            address,
            port,
            place,
            shape: Shape::Plain,
        }
    }

    /// Decides as the kernel does for a fresh session.
    pub fn decide(&self, flow: &Flow) -> Verdict {
        decide(self, flow)
    }
}

impl Rules for Model<'_> {
    fn scope(&self) -> Option<Scope> {
        Some(Scope {
            policy: PolicyId(1),
            generation: Generation(1),
            mode: self.policy.mode,
        })
    }

    fn find(&self, _scope: Scope, flow: &Flow) -> Option<Match> {
        let longest = self.longest(flow.address)?;
        longest.set.find(flow.protocol, flow.port)
    }

    fn goes_to_resolver(&self, flow: &Flow) -> bool {
        flow.port == DNS_PORT
    }

    fn granted(&self, _scope: Scope, flow: &Flow) -> Option<Match> {
        let covering = self.grants.get(&flow.address)?.iter().filter(|range| {
            u16::from(range.protocol) == flow.protocol
                && (range.low..=range.high).contains(&flow.port)
                && self
                    .policy
                    .egress
                    .rules
                    .iter()
                    .any(|rule| rule.id == range.rule)
        });
        // Rules are a union: one that demands no name comes first.
        covering
            .min_by_key(|range| range.flags & TLS)
            .map(|range| Match {
                rule: range.rule,
                flags: range.flags,
            })
    }

    fn quota(&self, _scope: Scope, _flow: &Flow) -> Quota {
        Quota::Left
    }
}
