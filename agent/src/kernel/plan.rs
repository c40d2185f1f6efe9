//! What one generation of one policy has in the maps: every key, made once, for writing and for
//! removing.

use std::{collections::BTreeSet, path::Path};

use common::{
    id::{Generation, PolicyId, RuleId},
    layout::{ExactKey, Limits, LimitsKey, LiveKey, PrefixData, PrefixKey},
    name::NameKey,
    rule::RuleSet,
    unix::UnixKey,
};

use super::{error::Error, maps::Maps};
use crate::{
    policy::compiled::{Egress, NameEntry, TableEntry},
    sys::bpf_map::Write,
};

/// Bits of a whole address.
const ADDRESS_BITS: u8 = 128;

/// What one policy takes in the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kernel) struct Sizes {
    pub(in crate::kernel) exact: usize,
    pub(in crate::kernel) prefixes: usize,
    pub(in crate::kernel) names: usize,
    pub(in crate::kernel) live: usize,
    pub(in crate::kernel) limited: bool,
    pub(in crate::kernel) unix_doors: usize,
}

/// All keys that one generation of one policy has in the kernel.
#[derive(Debug)]
pub(in crate::kernel) struct MapPlan<'a> {
    pub(in crate::kernel) policy: PolicyId,
    pub(in crate::kernel) generation: Generation,
    exact: Vec<&'a TableEntry>,
    prefixes: Vec<&'a TableEntry>,
    names: &'a [NameEntry],
    live: BTreeSet<RuleId>,
    limits: Option<Limits>,
    unix_doors: Vec<(&'a Path, RuleId)>,
}

impl<'a> MapPlan<'a> {
    pub(in crate::kernel) fn new(
        policy: PolicyId,
        generation: Generation,
        egress: &'a Egress,
    ) -> Self {
        let (exact, prefixes) = egress
            .table
            .iter()
            .partition(|entry| entry.prefix.length == ADDRESS_BITS);
        let domains = egress.rules.iter().filter(|rule| rule.domain().is_some());
        let live = egress.table.iter().flat_map(|entry| rules_of(&entry.set));
        // A grant and a verified name are worth something while their rule lives.
        let live = live.chain(domains.map(|rule| rule.id));
        let limits = Limits {
            connections: egress.limits.connections,
            bytes_out: egress.limits.bytes_out,
        };
        Self {
            policy,
            generation,
            exact,
            prefixes,
            names: egress.names.entries(),
            live: live.collect(),
            limits: is_limited(egress).then_some(limits),
            unix_doors: egress.unix_doors().collect(),
        }
    }

    pub(in crate::kernel) fn write(&self, maps: &Maps) -> Result<(), Error> {
        for entry in &self.exact {
            maps.exact
                .write(&self.exact_key(entry), &entry.set, Write::New)?;
        }
        for entry in &self.prefixes {
            maps.prefixes
                .write(&self.prefix_key(entry), &entry.set, Write::New)?;
        }
        for (key, entry) in self.names() {
            maps.names.write(&key, &entry.set, Write::New)?;
        }
        for rule in &self.live {
            maps.live.write(&self.live_key(*rule), &1, Write::New)?;
        }
        if let Some(limits) = &self.limits {
            maps.limits.write(&self.limits_key(), limits, Write::New)?;
        }
        for (key, rule) in self.unix_doors() {
            maps.unix_doors.write(&key, &rule, Write::New)?;
        }
        Ok(())
    }

    pub(in crate::kernel) fn remove(&self, maps: &Maps) -> Result<(), Error> {
        for entry in &self.exact {
            maps.exact.remove(&self.exact_key(entry))?;
        }
        for entry in &self.prefixes {
            maps.prefixes.remove(&self.prefix_key(entry))?;
        }
        for (key, _) in self.names() {
            maps.names.remove(&key)?;
        }
        for rule in &self.live {
            maps.live.remove(&self.live_key(*rule))?;
        }
        maps.limits.remove(&self.limits_key())?;
        for (key, _) in self.unix_doors() {
            maps.unix_doors.remove(&key)?;
        }
        Ok(())
    }

    pub(in crate::kernel) fn sizes(&self) -> Sizes {
        Sizes {
            exact: self.exact.len(),
            prefixes: self.prefixes.len(),
            names: self.names.len(),
            live: self.live.len(),
            limited: self.limits.is_some(),
            unix_doors: self.unix_doors.len(),
        }
    }

    fn exact_key(&self, entry: &TableEntry) -> ExactKey {
        ExactKey {
            policy: self.policy,
            generation: self.generation,
            address: entry.prefix.network,
        }
    }

    fn prefix_key(&self, entry: &TableEntry) -> PrefixKey {
        PrefixKey {
            length: PrefixData::SCOPE_BITS + u32::from(entry.prefix.length),
            data: PrefixData::new(self.policy, self.generation, entry.prefix.network),
        }
    }

    /// Names with their keys. One without a place in the table is not written: no handshake is ever
    /// for it.
    fn names(&self) -> impl Iterator<Item = (NameKey, &NameEntry)> {
        self.names.iter().filter_map(|entry| {
            let key = entry.key(self.policy, self.generation)?;
            Some((key, entry))
        })
    }

    /// Unix sockets with their keys. The compiler has seen that each path fits.
    fn unix_doors(&self) -> impl Iterator<Item = (UnixKey, RuleId)> {
        self.unix_doors.iter().filter_map(|(path, rule)| {
            let path = path.as_os_str().as_encoded_bytes();
            let key = UnixKey::new(self.policy, self.generation, path)?;
            Some((key, *rule))
        })
    }

    fn live_key(&self, rule: RuleId) -> LiveKey {
        LiveKey {
            policy: self.policy,
            generation: self.generation,
            rule,
        }
    }

    fn limits_key(&self) -> LimitsKey {
        LimitsKey {
            policy: self.policy,
            generation: self.generation,
        }
    }
}

fn rules_of(set: &RuleSet) -> impl Iterator<Item = RuleId> + '_ {
    set.ranges
        .iter()
        .take(set.count as usize)
        .map(|range| range.rule)
}

fn is_limited(egress: &Egress) -> bool {
    egress.limits.connections != u64::MAX || egress.limits.bytes_out != u64::MAX
}
