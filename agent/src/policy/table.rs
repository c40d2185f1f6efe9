//! From rules to what is open at each prefix: covering prefixes united, so that one look-up by the
//! longest prefix answers for all of them.

use common::{
    flow::{Address, TCP, UDP},
    limits::PORT_RANGES_MAX,
    rule::{DOOR, OWN, PortRange, RuleSet},
};

use super::compiled::{Prefix, Rule, RuleKind, TableEntry, Target};

/// What `loopback = "own"` opens: all of loopback to TCP. Datagrams to one address of IPv4 only: any
/// other may be a broadcast address, and a broadcast has more receivers than the one that is looked
/// for.
const OWN_LOOPBACK: [(Prefix, u16); 4] = {
    const ALL_V4: Prefix = Prefix {
        network: Address::from_v4([127, 0, 0, 0]),
        length: 104,
    };
    const ONE_V4: Prefix = Prefix {
        network: Address::from_v4([127, 0, 0, 1]),
        length: 128,
    };
    const ONE_V6: Prefix = Prefix {
        network: Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        length: 128,
    };
    [(ALL_V4, TCP), (ONE_V4, UDP), (ONE_V6, TCP), (ONE_V6, UDP)]
};

/// More is open at one prefix than a decision can read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{ranges} port ranges are open at `{prefix}`, {PORT_RANGES_MAX} is the most")]
pub(super) struct TableError {
    /// Where.
    pub(super) prefix: Prefix,
    /// How many.
    pub(super) ranges: usize,
    /// Line of the last rule that adds to it.
    pub(super) line: u32,
}

impl TableError {
    /// What to do.
    pub(super) const HINT: &str = "every rule whose block covers this one counts: merge ports into \
                            ranges, or name smaller blocks";
}

/// The ranges of one prefix, its covering prefixes' included.
struct Level {
    prefix: Prefix,
    ranges: Vec<PortRange>,
}

/// Builds the table. Linear in the rules after one sort: prefixes are visited in order, and the
/// covering ones of each are on a stack.
pub(super) fn build(rules: &[Rule]) -> Result<Vec<TableEntry>, TableError> {
    let mut ordered: Vec<(Prefix, &Rule, Vec<PortRange>)> = rules.iter().flat_map(opened).collect();
    // A covering prefix has a smaller network or, with the same one, a smaller length.
    ordered.sort_by_key(|(prefix, ..)| *prefix);
    let mut table = Vec::with_capacity(ordered.len());
    let mut covering: Vec<Level> = Vec::new();
    for group in ordered.chunk_by(|a, b| a.0 == b.0) {
        let Some((prefix, ..)) = group.first() else {
            continue;
        };
        while covering
            .last()
            .is_some_and(|level| !level.prefix.covers(prefix))
        {
            covering.pop();
        }
        let mut ranges = covering
            .last()
            .map_or_else(Vec::new, |level| level.ranges.clone());
        ranges.extend(group.iter().flat_map(|(_, _, ranges)| ranges).copied());
        if ranges.len() > PORT_RANGES_MAX {
            return Err(TableError {
                prefix: *prefix,
                ranges: ranges.len(),
                line: group
                    .iter()
                    .map(|(_, rule, _)| rule.line)
                    .max()
                    .unwrap_or(1),
            });
        }
        ranges.sort_by_key(|range| {
            let door_first = range.flags & DOOR == 0;
            (
                door_first,
                range.protocol,
                range.low,
                range.high,
                range.rule,
            )
        });
        table.push(TableEntry {
            prefix: *prefix,
            set: set_of(&ranges),
        });
        covering.push(Level {
            prefix: *prefix,
            ranges,
        });
    }
    Ok(table)
}

/// Where a rule opens what.
fn opened(rule: &Rule) -> Vec<(Prefix, &Rule, Vec<PortRange>)> {
    match &rule.target {
        Target::Prefix(prefix) => vec![(*prefix, rule, ranges_of(rule).collect())],
        Target::Own => OWN_LOOPBACK
            .into_iter()
            .map(|(prefix, protocol)| (prefix, rule, vec![own_range(rule, protocol)]))
            .collect(),
        Target::Domain(_) | Target::Unix(_) => Vec::new(),
    }
}

fn own_range(rule: &Rule, protocol: u16) -> PortRange {
    PortRange {
        protocol: u8::try_from(protocol).unwrap_or_default(),
        ..rule.range((1, u16::MAX), OWN)
    }
}

fn ranges_of(rule: &Rule) -> impl Iterator<Item = PortRange> {
    let flags = match rule.kind {
        RuleKind::Allow => 0,
        RuleKind::AllowPrivate | RuleKind::Local => DOOR,
    };
    rule.ports
        .iter()
        .map(move |ports| rule.range(*ports, flags))
}

/// The ranges as the kernel reads them; the caller has seen that they fit.
pub(super) fn set_of(ranges: &[PortRange]) -> RuleSet {
    let mut set = RuleSet::EMPTY;
    for (slot, range) in set.ranges.iter_mut().zip(ranges) {
        *slot = *range;
        set.count = set.count.saturating_add(1);
    }
    set
}
