//! Which addresses of an answer a session may see, and the grants that are written before it does.

use std::{net::IpAddr, time::Duration};

use common::{
    flow::Address,
    id::{Generation, RuleId, SessionId},
    rule::{DOOR, PortRange},
    special::{self, Special},
};

use super::{
    gate::{self, Question},
    session::Session,
    settings::IsLocal,
};
use crate::{
    clock::BootTime,
    kernel::grant::Grants,
    policy::compiled::{CompiledPolicy, Prefix, Rule},
};

/// Least time of a grant before its grace, seconds.
pub const TTL_MIN: u32 = 60;
/// How long a grant outlives the answer that it was given for: runtimes and connection pools hold
/// addresses longer than they are told to.
pub const GRACE: Duration = Duration::from_mins(10);
/// How much of its grace a grant may lack before it is written again: without this every cached
/// answer with little time left would write.
pub(super) const SLACK: Duration = Duration::from_mins(1);
/// Bits of the longest prefix: one address in its canonical form.
const PREFIX_BITS: u8 = 128;

const _: () = assert!(SLACK.as_secs() * 5 < GRACE.as_secs());
const _: () = assert!(TTL_MIN < super::answer::TTL_MAX);

/// Writes grants where the kernel reads them.
pub trait Granter: Send + Sync + 'static {
    /// Adds or prolongs; returns only when the kernel has it.
    fn give(
        &self,
        session: SessionId,
        address: Address,
        ranges: &[PortRange],
        expires: BootTime,
    ) -> Result<(), GrantRefused>;
}

/// A grant could not be written; whoever writes grants has counted and logged why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the grant could not be written")]
pub struct GrantRefused;

impl Granter for Grants {
    fn give(
        &self,
        session: SessionId,
        address: Address,
        ranges: &[PortRange],
        expires: BootTime,
    ) -> Result<(), GrantRefused> {
        Self::give(self, session, address, ranges, expires).map_err(|error| {
            tracing::debug!(session.id = session.0, dst.ip = %address, %error, "no grant");
            GrantRefused
        })
    }
}

/// What is left of the addresses of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Leased {
    /// These, each with its grant written or through a door.
    Addresses(Vec<IpAddr>),
    /// Nothing: the name has none.
    None,
    /// Nothing: all are special-purpose. The first of them.
    Private(IpAddr),
    /// Nothing: no grant could be written. The first that was tried.
    Full(IpAddr),
}

/// For whom.
pub(super) struct Lessee<'a> {
    pub(super) id: SessionId,
    pub(super) session: &'a Session,
    pub(super) policy: &'a CompiledPolicy,
    pub(super) generation: Generation,
    pub(super) question: &'a Question,
}

impl Lessee<'_> {
    /// Sorts out the addresses and writes the grants.
    pub(super) fn lease(
        &self,
        addresses: &[IpAddr],
        ttl: u32,
        granter: &dyn Granter,
        is_local: &IsLocal,
        now: BootTime,
    ) -> Leased {
        let Some(first) = addresses.first() else {
            return Leased::None;
        };
        let rules = mixed(gate::rules(self.policy, self.question).map(|rule| rule.id));
        let mut writing = Writing {
            lessee: self,
            rules,
            ranges: None,
            desired: expiry(ttl, now),
            granter,
            now,
        };
        let mut kept = Vec::with_capacity(addresses.len());
        let mut refused = None;
        for ip in addresses {
            let fits = match place(*ip, is_local) {
                Place::Public => {
                    let given = rules.is_none() || writing.give(Address::from(*ip));
                    if !given {
                        refused = refused.or(Some(*ip));
                    }
                    given
                }
                Place::Special => has_door(self.policy, Address::from(*ip)),
                Place::Never => false,
            };
            if fits {
                kept.push(*ip);
            }
        }
        match (kept.is_empty(), refused) {
            (false, _) => Leased::Addresses(kept),
            (true, Some(ip)) => Leased::Full(ip),
            (true, None) => Leased::Private(*first),
        }
    }
}

struct Writing<'a> {
    lessee: &'a Lessee<'a>,
    rules: Option<u64>,
    ranges: Option<Vec<PortRange>>,
    desired: BootTime,
    granter: &'a dyn Granter,
    now: BootTime,
}

impl Writing<'_> {
    fn give(&mut self, address: Address) -> bool {
        let rules = self.rules.unwrap_or_default();
        let lessee = self.lessee;
        let mut state = lessee.session.lock();
        let granted = state.granted.of(lessee.generation);
        let slack = u64::try_from(SLACK.as_nanos()).unwrap_or(0);
        if let Some(end_ns) = granted.until(address, rules)
            && end_ns.saturating_add(slack) >= self.desired.0
        {
            return true;
        }
        let ranges = self.ranges.get_or_insert_with(|| {
            gate::rules(lessee.policy, lessee.question)
                .flat_map(Rule::grant_ranges)
                .collect()
        });
        // Under the session's lock: two answers for one address must not overtake each other.
        let given = self
            .granter
            .give(lessee.id, address, ranges, self.desired)
            .is_ok();
        if given {
            granted.remember(address, rules, self.desired.0, self.now.0);
        }
        given
    }
}

/// When the grant for an answer with this time to live ends.
pub(super) fn expiry(ttl: u32, now: BootTime) -> BootTime {
    let ttl = ttl.clamp(TTL_MIN, super::answer::TTL_MAX);
    now + Duration::from_secs(u64::from(ttl)) + GRACE
}

/// One number for a set of rules; `None` for none. Ids are hashes already; their order is the
/// policy's, and another order only writes the grant again.
fn mixed(rules: impl Iterator<Item = RuleId>) -> Option<u64> {
    rules.fold(None, |mixed: Option<u64>, rule| {
        let mixed = mixed.unwrap_or_default().rotate_left(7);
        Some(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ rule.0)
    })
}

/// Where an address of an answer leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Public,
    /// Only through a door.
    Special,
    /// Nowhere: an IPv6 form that carries an IPv4 address, which no door opens.
    Never,
}

fn place(ip: IpAddr, is_local: &IsLocal) -> Place {
    let address = Address::from(ip);
    let mapped = ip.is_ipv6() && address.v4().is_some();
    if mapped || special::refusal_of_embedded(&address).is_some() {
        Place::Never
    } else if special::classify(&address) != Special::No || is_local(&address) {
        Place::Special
    } else {
        Place::Public
    }
}

/// Whether a door of the policy (`allow_private`, `local.allow`) names the address: looked up as the
/// kernel does, where the longest prefix holds what all that cover it open.
fn has_door(policy: &CompiledPolicy, address: Address) -> bool {
    let table = &policy.egress.table;
    let longest = (0..=PREFIX_BITS).rev().find_map(|length| {
        let prefix = Prefix::new(address, length);
        let at = table.binary_search_by_key(&prefix, |entry| entry.prefix);
        table.get(at.ok()?)
    });
    longest.is_some_and(|entry| {
        let mut ranges = entry.set.ranges.iter().take(entry.set.count as usize);
        ranges.any(|range| range.flags & DOOR != 0)
    })
}

#[cfg(test)]
mod tests;
