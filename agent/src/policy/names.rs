//! Which domain rules cover a name, and what the kernel is told of names.
//!
//! Built once when a policy is compiled. A look-up costs one step a label, however many rules there
//! are; nothing here parses text.

use std::collections::{BTreeMap, HashMap};

use common::{
    flow::TCP,
    id::{Generation, PolicyId},
    limits::GRANTS_PER_ADDRESS_MAX,
    name::NameKey,
    rule::{ECH, PortRange, RuleSet},
};

use super::{
    compiled::{Rule, Target},
    domain::{DomainName, DomainPattern},
    table,
};

/// The domain rules of a policy, by name. It holds places in [`super::compiled::Egress::rules`].
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    entries: Vec<NameEntry>,
}

/// One name or wildcard as the kernel looks up the server name of a TLS handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameEntry {
    /// The name or wildcard.
    pub pattern: DomainPattern,
    /// The TCP ranges of all rules that cover it, those that let a handshake hide its name first.
    pub set: RuleSet,
}

impl NameEntry {
    /// Its key in the kernel's table.
    #[must_use]
    pub fn key(&self, policy: PolicyId, generation: Generation) -> Option<NameKey> {
        kernel_key(&self.pattern, policy, generation)
    }
}

/// More is open under one name than an address can hold grants for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{ranges} port ranges are open under `{pattern}`, {GRANTS_PER_ADDRESS_MAX} is the most")]
pub(super) struct NameTableError {
    /// Where.
    pub(super) pattern: DomainPattern,
    /// How many.
    pub(super) ranges: usize,
    /// Line of the last rule that adds to it.
    pub(super) line: u32,
}

impl NameTableError {
    /// What to do.
    pub(super) const HINT: &str =
        "every rule and wildcard that covers the name counts, tcp and udp: merge ports into ranges";
}

impl NameTable {
    /// Indexes the domain rules of a policy.
    pub(super) fn build(rules: &[Rule]) -> Result<Self, NameTableError> {
        let mut table = Self::default();
        // Ordered, so that equal policies give equal entries.
        let mut patterns: BTreeMap<&DomainPattern, u32> = BTreeMap::new();
        for (at, rule) in rules.iter().enumerate() {
            let Target::Domain(domain) = &rule.target else {
                continue;
            };
            let (index, name) = match domain.pattern.wildcard_base() {
                Some(base) => (&mut table.wildcard, base),
                None => (&mut table.exact, domain.pattern.as_str()),
            };
            index.entry(name.into()).or_default().push(at);
            let line = patterns.entry(&domain.pattern).or_default();
            *line = rule.line.max(*line);
        }
        for (pattern, line) in patterns {
            let ranges: Vec<PortRange> = table
                .over(rules, pattern)
                .flat_map(Rule::grant_ranges)
                .collect();
            if ranges.len() > GRANTS_PER_ADDRESS_MAX {
                return Err(NameTableError {
                    pattern: pattern.clone(),
                    ranges: ranges.len(),
                    line,
                });
            }
            table.entries.extend(entry(pattern, ranges));
        }
        Ok(table)
    }

    /// Every domain rule that covers the name: those that name it, then wildcards from the longest.
    pub fn covering<'a>(
        &'a self,
        rules: &'a [Rule],
        name: &DomainName,
    ) -> impl Iterator<Item = &'a Rule> {
        let exact = self.exact.get(name.as_str()).into_iter();
        let wildcard = suffixes(name.as_str()).filter_map(|base| self.wildcard.get(base));
        exact
            .chain(wildcard)
            .flatten()
            .filter_map(|at| rules.get(*at))
    }

    /// What goes to the kernel's table of names, ordered by name. A name that has no place there
    /// (too long) stands under no rule that demands TLS.
    #[must_use]
    pub fn entries(&self) -> &[NameEntry] {
        &self.entries
    }

    /// Whether the policy has no domain rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// The rules that cover all that a pattern covers.
    fn over<'a>(
        &'a self,
        rules: &'a [Rule],
        pattern: &'a DomainPattern,
    ) -> impl Iterator<Item = &'a Rule> {
        let base = pattern.wildcard_base();
        let exact = match base {
            Some(base) => self.wildcard.get(base),
            None => self.exact.get(pattern.as_str()),
        };
        let wildcard =
            suffixes(base.unwrap_or(pattern.as_str())).filter_map(|base| self.wildcard.get(base));
        exact
            .into_iter()
            .chain(wildcard)
            .flatten()
            .filter_map(|at| rules.get(*at))
    }
}

/// `b.c` and `c` of `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| {
        name.split_once('.').map(|(_, rest)| rest)
    })
    .skip(1)
}

fn entry(pattern: &DomainPattern, ranges: Vec<PortRange>) -> Option<NameEntry> {
    let mut ranges: Vec<PortRange> = ranges
        .into_iter()
        .filter(|range| u16::from(range.protocol) == TCP)
        .collect();
    // Without a TCP range of its own, or without a place in the trie, what covers it answers for it.
    if ranges.is_empty() || !fits(pattern) {
        return None;
    }
    // The kernel takes the first range that covers the port.
    ranges.sort_by_key(|range| (range.flags & ECH == 0, range.low, range.high, range.rule));
    Some(NameEntry {
        pattern: pattern.clone(),
        set: table::set_of(&ranges),
    })
}

/// Whether the kernel's table of names has a place for the pattern.
pub(super) fn fits(pattern: &DomainPattern) -> bool {
    kernel_key(pattern, PolicyId(0), Generation(0)).is_some()
}

fn kernel_key(
    pattern: &DomainPattern,
    policy: PolicyId,
    generation: Generation,
) -> Option<NameKey> {
    match pattern.wildcard_base() {
        Some(base) => NameKey::below(policy, generation, base),
        None => NameKey::exact(policy, generation, pattern.as_str()),
    }
}
