//! From what was seen to the lines of a policy that would have allowed it.
//!
//! Nothing is opened that was not used: names rather than addresses, the ports that were dialled.
//! What a line can not or should not open by itself stands in a comment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use common::{
    flow::{Address, DNS_PORT, TCP, UDP},
    limits::GRANTS_PER_ADDRESS_MAX,
    verdict::Reason,
};

use super::{
    Flow, Record, Uses,
    lines::{head, listed, ranges, rule, said, times},
    siblings,
};
use crate::{
    observe::event::protocol_name,
    policy::{
        domain::{DomainName, DomainPattern},
        explain::{Destination, remedy},
        may_be_named,
    },
};

/// Port ranges of one name or address.
const RANGES_MAX: usize = GRANTS_PER_ADDRESS_MAX;
/// Ports on which TLS begins with the first byte. Elsewhere nobody looked, so none is demanded.
pub(super) const TLS_PORTS: &[u16] = &[
    443, 465, 563, 636, 853, 989, 990, 993, 994, 995, 2376, 5061, 5671, 5986, 6443, 6514, 8443,
    8883, 9443, 10250,
];
/// Records that a rule may list, and a worker may want. Not those that carry hints and keys past the
/// check of names (`HTTPS`, `SVCB`): clients do without.
const RECORDS: &[&str] = &["A", "AAAA", "MX", "TXT", "SRV", "CAA"];
/// Records of addresses: what a rule lists where it does not say.
pub(super) const ADDRESS_RECORDS: &[&str] = &["A", "AAAA"];

/// Lines for a policy, and what stands behind them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The lines, comments included.
    pub toml: String,
    /// Rules among them.
    pub rules: u64,
    /// Things that no line opens.
    pub remarks: u64,
    /// Events that are missing.
    pub missing: u64,
}

/// Events that nobody saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen {
    /// That the rate limit suppressed in sessions that live.
    pub suppressed: u64,
    /// That the ring had no room for, of all tools.
    pub ring: u64,
}

/// What a rule is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    Domain(String),
    Address(IpAddr),
}

/// What a rule says beside target and ports.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Demand {
    pub(super) protocol: u16,
    pub(super) tls_off: bool,
    pub(super) hidden: bool,
}

/// A rule to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening {
    pub(super) ports: BTreeMap<u16, Uses>,
    pub(super) asked: Option<Uses>,
    pub(super) records: BTreeSet<String>,
    /// The names that a wildcard stands for.
    pub(super) names: Vec<String>,
    /// Other names that the same flows may have been for: asked for before, with the same address.
    pub(super) beside: BTreeSet<String>,
}

type Openings = BTreeMap<(Target, Demand), Opening>;

impl Proposal {
    /// The lines for a tool.
    #[must_use]
    pub fn new(tool: &str, record: &Record, unseen: Unseen) -> Self {
        let (mut openings, mut remarks) = (Openings::new(), Vec::new());
        for (flow, uses) in &record.flows {
            place(record, flow, *uses, &mut openings, &mut remarks);
        }
        names(record, &mut openings, &mut remarks);
        let openings = united(openings);
        let missing = record.missing.saturating_add(unseen.suppressed);
        let mut lines = head(tool, record.sessions, missing, unseen.ring);
        let mut rules = 0_u64;
        let mut ranges_of: BTreeMap<Target, usize> = BTreeMap::new();
        for ((target, demand), opening) in &openings {
            let taken = ranges_of.entry(target.clone()).or_default();
            let mut ranges = ranges(opening.ports.keys().copied());
            let room = RANGES_MAX.saturating_sub(*taken);
            let beyond = ranges.split_off(room.min(ranges.len()));
            *taken = taken.saturating_add(ranges.len());
            if !beyond.is_empty() {
                remarks.push(format!(
                    "{}: more than {RANGES_MAX} ranges of ports; {} are left out: merge them",
                    target.text(),
                    beyond.len()
                ));
            }
            if !ranges.is_empty() || opening.ports.is_empty() {
                lines.push_str(&rule(target, demand, opening, &ranges));
                rules = rules.saturating_add(1);
            }
        }
        lines.push_str(&said(&remarks));
        Self {
            toml: lines,
            rules,
            remarks: remarks.len() as u64,
            missing: missing.saturating_add(unseen.ring),
        }
    }
}

impl Target {
    fn text(&self) -> String {
        match self {
            Self::Domain(name) => format!("`{name}`"),
            Self::Address(address) => format!("`{address}`"),
        }
    }
}

/// Puts a flow to the rule that would open it, or to the remarks.
fn place(
    record: &Record,
    flow: &Flow,
    uses: Uses,
    openings: &mut Openings,
    remarks: &mut Vec<String>,
) {
    let carried = (flow.protocol == TCP || flow.protocol == UDP) && flow.port != 0;
    let demand = |tls_off, hidden| Demand {
        protocol: flow.protocol,
        tls_off: tls_off && flow.protocol == TCP,
        hidden,
    };
    let mut open = |target: Target, demand: Demand, beside: BTreeSet<String>| {
        let opening = openings.entry((target, demand)).or_default();
        let known = opening.ports.entry(flow.port);
        known.and_modify(|known| known.again(uses)).or_insert(uses);
        opening.beside.extend(beside);
    };
    let asked = asked(record, flow, uses);
    let mut each = |demand: &Demand| {
        for name in &asked {
            let mut beside = asked.clone();
            beside.remove(name);
            open(Target::Domain(name.clone()), demand.clone(), beside);
        }
    };
    let shown = flow.name.as_deref().and_then(canonical);
    match (flow.reason, shown) {
        (Reason::NotAllowed, _) if carried && asked.is_empty() => {
            let address = Target::Address(flow.address);
            open(address, demand(false, false), BTreeSet::new());
        }
        (Reason::NotAllowed, _) if carried => {
            each(&demand(!TLS_PORTS.contains(&flow.port), false));
        }
        (Reason::TlsName, Some(name)) => {
            open(Target::Domain(name), demand(false, false), BTreeSet::new());
        }
        (Reason::TlsNoName | Reason::TlsMalformed | Reason::TlsIncomplete, _)
            if !asked.is_empty() =>
        {
            each(&demand(true, false));
        }
        (Reason::TlsHidden, _) if !asked.is_empty() => each(&demand(false, true)),
        (_, _) => remarks.push(shut(flow, uses)),
    }
}

/// The names that may have led to a flow: those for which its address was told, less those that can
/// not have.
fn asked(record: &Record, flow: &Flow, uses: Uses) -> BTreeSet<String> {
    let names = record.addresses.get(&flow.address).into_iter().flatten();
    // An answer is on record before the worker has it: what was first asked for after the last of
    // these flows led to none of them.
    let names = less(names.collect(), |name| {
        let asked = record.names.get(name);
        asked.is_none_or(|asked| asked.uses.first <= uses.last)
    });
    // A handshake is looked at where a rule of the name asks for one.
    let is_judged = matches!(
        flow.reason,
        Reason::TlsNoName | Reason::TlsMalformed | Reason::TlsIncomplete | Reason::TlsHidden
    );
    let names = less(names, |name| {
        let asked = record.names.get(name);
        !is_judged || asked.is_some_and(|asked| !asked.lacking)
    });
    names
        .into_iter()
        .filter_map(|name| canonical(name))
        .collect()
}

/// The names that pass, or all of them where none does.
fn less(names: Vec<&String>, passes: impl Fn(&str) -> bool) -> Vec<&String> {
    let passing: Vec<_> = names.iter().copied().filter(|name| passes(name)).collect();
    if passing.is_empty() { names } else { passing }
}

/// What no line should open by itself.
fn shut(flow: &Flow, uses: Uses) -> String {
    let (reason, address) = (flow.reason.sentence(), flow.address);
    let told = match (flow.name.as_deref(), flow.port) {
        (Some(name), DNS_PORT) if address.is_unspecified() => {
            return format!("`{name}`: {reason}: {}", times(uses, "query"));
        }
        (Some(name), DNS_PORT) => {
            return format!("`{name}` ({address}): {reason}: {}", times(uses, "query"));
        }
        (Some(name), port) => format!("{address} port {port} ({name})"),
        (None, port) => format!("{address} port {port}"),
    };
    let protocol = protocol_name(flow.protocol);
    let mut remark = format!("{protocol} {told}: {reason}: {}", times(uses, "flow"));
    if matches!(
        flow.reason,
        Reason::PrivateAddress
            | Reason::LocalAddress
            | Reason::LimitBytes
            | Reason::LimitConnections
    ) {
        let destination = Destination {
            address: Address::from(flow.address),
            port: flow.port,
            protocol: flow.protocol,
        };
        remark.push('\n');
        remark.push_str(&remedy(flow.reason, destination));
    }
    remark
}

/// Tells rules what was asked, and makes rules or remarks of names that no flow led to.
fn names(record: &Record, openings: &mut Openings, remarks: &mut Vec<String>) {
    let mut led: BTreeSet<String> = BTreeSet::new();
    for ((target, _), opening) in openings.iter_mut() {
        let Target::Domain(name) = target else {
            continue;
        };
        led.insert(name.clone());
        let spelt = record.names.iter();
        for (_, asked) in spelt.filter(|(other, _)| canonical(other).as_ref() == Some(name)) {
            add(&mut opening.asked, asked.uses);
            opening.records.extend(asked.records.iter().cloned());
        }
    }
    for (name, asked) in record.names.iter().filter(|(_, asked)| asked.lacking) {
        let records = listed(&asked.records, ", ");
        let known = canonical(name);
        if known.as_ref().is_some_and(|name| led.contains(name)) {
            continue;
        }
        let wanted = |of: &[&str]| of.iter().any(|record| asked.records.contains(*record));
        let only_data = wanted(RECORDS) && !wanted(ADDRESS_RECORDS);
        match known {
            Some(name) if only_data => {
                let demand = Demand {
                    protocol: TCP,
                    tls_off: false,
                    hidden: false,
                };
                let opening = openings.entry((Target::Domain(name), demand)).or_default();
                add(&mut opening.asked, asked.uses);
                opening.records.extend(asked.records.iter().cloned());
            }
            Some(_) => remarks.push(format!(
                "`{name}` ({records}): {}, and no flow led to it: a rule needs a port",
                times(asked.uses, "query")
            )),
            None => remarks.push(format!(
                "`{name}` ({records}): {}: no name that a rule takes",
                times(asked.uses, "query")
            )),
        }
    }
}

/// Makes one wildcard of siblings that want the same.
fn united(openings: Openings) -> Openings {
    type Family = (String, Demand, Vec<u16>, Vec<&'static str>);
    let mut families: BTreeMap<Family, Vec<String>> = BTreeMap::new();
    for ((target, demand), opening) in &openings {
        if let Target::Domain(name) = target
            && let Some(parent) = siblings::parent(name)
        {
            let ports = opening.ports.keys().copied().collect();
            let family = (parent.to_owned(), demand.clone(), ports, records(opening));
            families.entry(family).or_default().push(name.clone());
        }
    }
    let mut united = openings;
    for ((parent, demand, _, _), names) in families {
        if names.len() < siblings::SIBLINGS_MIN {
            continue;
        }
        let mut wildcard = Opening::default();
        for name in &names {
            let member = united.remove(&(Target::Domain(name.clone()), demand.clone()));
            let member = member.unwrap_or_default();
            for (port, uses) in member.ports {
                let known = wildcard.ports.entry(port);
                known.and_modify(|known| known.again(uses)).or_insert(uses);
            }
            member
                .asked
                .into_iter()
                .for_each(|uses| add(&mut wildcard.asked, uses));
            wildcard.records.extend(member.records);
            wildcard.beside.extend(member.beside);
        }
        wildcard.names = names;
        let target = Target::Domain(format!("*.{parent}"));
        let known = united.entry((target, demand)).or_default();
        known.ports.extend(wildcard.ports);
        wildcard
            .asked
            .into_iter()
            .for_each(|uses| add(&mut known.asked, uses));
        known.records.extend(wildcard.records);
        known.names.extend(wildcard.names);
        known.beside.extend(wildcard.beside);
        known.beside.retain(|name| !known.names.contains(name));
    }
    united
}

/// The records that a rule lists: those that were asked for, and addresses where flows went.
pub(super) fn records(opening: &Opening) -> Vec<&'static str> {
    let dialled = !opening.ports.is_empty();
    let listed = RECORDS.iter().filter(|record| {
        (dialled && ADDRESS_RECORDS.contains(record)) || opening.records.contains(**record)
    });
    listed.copied().collect()
}

fn add(known: &mut Option<Uses>, uses: Uses) {
    match known {
        Some(known) => known.again(uses),
        None => *known = Some(uses),
    }
}

/// The form in which a rule names it. A name that was spelt out for terminals is none.
fn canonical(name: &str) -> Option<String> {
    let name = DomainName::from_query(name).ok()?;
    may_be_named(&DomainPattern::from(name.clone())).then(|| name.to_string())
}
