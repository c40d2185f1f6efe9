//! How a proposal is written: the lines of each rule, with what it was used for before them.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use common::flow::UDP;

use super::{
    Uses,
    proposal::{ADDRESS_RECORDS, Demand, Opening, TLS_PORTS, Target, records},
};
use crate::observe::event::protocol_name;

/// Names that a comment lists.
const LISTED_MAX: usize = 12;
/// Comments about what no line opens.
const REMARKS_MAX: usize = 100;

/// What the reader should know first.
pub(super) fn head(tool: &str, sessions: u64, missing: u64, ring: u64) -> String {
    let told = format!("# Proposed for `{tool}` from {sessions} session(s) in `observe` mode.\n");
    let missing = match (missing, ring) {
        (0, 0) => "# No event is missing.\n".to_owned(),
        (missing, ring) => format!(
            "# Missing: {missing} events of these sessions (rate limit, room), {ring} of all tools (ring full):\n\
             # what they told of may be refused. Run it again.\n"
        ),
    };
    let next = "# Read each line before it goes into the policy; then `mode = \"enforce\"`.\n";
    format!("{told}{missing}{next}")
}

/// One rule with what it was used for.
pub(super) fn rule(
    target: &Target,
    demand: &Demand,
    opening: &Opening,
    ranges: &[(u16, u16)],
) -> String {
    let mut text = String::from("\n");
    uses(&mut text, demand, opening, ranges);
    text += "[[egress.allow]]\n";
    match target {
        Target::Domain(name) => add(&mut text, format_args!("domain = \"{name}\"\n")),
        Target::Address(IpAddr::V4(v4)) => add(&mut text, format_args!("cidr = \"{v4}/32\"\n")),
        Target::Address(IpAddr::V6(v6)) => add(&mut text, format_args!("cidr = \"{v6}/128\"\n")),
    }
    if demand.protocol == UDP {
        text += "protocol = \"udp\"\n";
    }
    let ports: Vec<String> = ranges
        .iter()
        .map(|(low, high)| {
            if low == high {
                low.to_string()
            } else {
                format!("\"{low}-{high}\"")
            }
        })
        .collect();
    if !ports.is_empty() {
        add(&mut text, format_args!("ports = [{}]\n", ports.join(", ")));
    }
    if matches!(target, Target::Domain(_)) {
        if demand.tls_off {
            text += "tls = \"off\"\n";
        }
        if demand.hidden {
            text += "ech = \"allow\"\n";
        }
        let records = records(opening);
        if records != ADDRESS_RECORDS {
            let quoted: Vec<_> = records
                .iter()
                .map(|record| format!("\"{record}\""))
                .collect();
            add(
                &mut text,
                format_args!("records = [{}]\n", quoted.join(", ")),
            );
        }
    }
    text
}

/// What a rule was used for, as comments.
fn uses(text: &mut String, demand: &Demand, opening: &Opening, ranges: &[(u16, u16)]) {
    let protocol = protocol_name(demand.protocol);
    for (port, used) in &opening.ports {
        if ranges
            .iter()
            .any(|(low, high)| (low..=high).contains(&port))
        {
            add(
                text,
                format_args!("# {protocol} {port}: {}\n", times(*used, "flow")),
            );
        }
    }
    if let Some(asked) = opening.asked {
        let records = listed(&opening.records, ", ");
        add(
            text,
            format_args!("# asked ({records}): {}\n", times(asked, "query")),
        );
    }
    if !opening.names.is_empty() {
        let names: BTreeSet<String> = opening.names.iter().cloned().collect();
        add(text, format_args!("# below it: {}\n", listed(&names, ", ")));
    }
    if !opening.beside.is_empty() {
        let names = listed(&opening.beside, ", ");
        add(
            text,
            format_args!(
                "# shared address: these flows may have been for {names} as well, or instead\n"
            ),
        );
    }
    if demand.tls_off
        && ranges
            .iter()
            .any(|(low, high)| low != high || !TLS_PORTS.contains(low))
    {
        *text +=
            "# whether TLS is spoken here was not looked at: take `tls = \"off\"` away if it is\n";
    }
}

/// The comments about what no line opens.
pub(super) fn said(remarks: &[String]) -> String {
    let mut text = String::new();
    if !remarks.is_empty() {
        text += "\n# Not opened by the lines above:\n";
    }
    for remark in remarks.iter().take(REMARKS_MAX) {
        let mut lines = remark.lines();
        add(
            &mut text,
            format_args!("# * {}\n", lines.next().unwrap_or_default()),
        );
        for line in lines {
            add(&mut text, format_args!("#     {line}\n"));
        }
    }
    let beyond = remarks.len().saturating_sub(REMARKS_MAX);
    if beyond > 0 {
        add(&mut text, format_args!("# * and {beyond} more\n"));
    }
    text
}

fn add(text: &mut String, line: fmt::Arguments<'_>) {
    text.push_str(&line.to_string());
}

pub(super) fn times(uses: Uses, what: &str) -> String {
    let Uses { times, first, last } = uses;
    let what = match (times, what) {
        (1, what) => what.to_owned(),
        (_, "query") => "queries".to_owned(),
        (_, what) => format!("{what}s"),
    };
    if times == 1 {
        return format!("1 {what}, {first}");
    }
    format!("{times} {what}, {first} to {last}")
}

pub(super) fn listed(names: &BTreeSet<String>, separator: &str) -> String {
    let mut text = names
        .iter()
        .take(LISTED_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(separator);
    let beyond = names.len().saturating_sub(LISTED_MAX);
    if beyond > 0 {
        add(&mut text, format_args!("{separator}and {beyond} more"));
    }
    text
}

/// Ports as ranges, those that touch united.
pub(super) fn ranges(ports: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, high)) if port <= high.saturating_add(1) => *high = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges
}
