//! Tests of the policy's front door: text in, policy or findings out.

mod calls;
mod cautions;
mod corpus;
mod doors;
mod examples;
mod explaining;
mod explaining_names;
mod forms;
mod invoice;
mod naive;
mod names;
mod scale;
mod set;
mod verbs;

use common::{decide::Mode, rule::DOOR};

use super::compile;

#[test]
fn empty_egress_reaches_nothing() {
    let policy = compile("t.toml", "version = 1\ntool = \"t\"\n").unwrap();
    assert!(policy.egress.rules.is_empty() && policy.egress.table.is_empty());
    assert_eq!(policy.mode, Mode::Enforce);
}

#[test]
fn covering_prefixes_are_united_and_doors_come_first() {
    let text = r#"
        version = 1
        tool = "t"
        egress.allow = [
            { cidr = "8.8.0.0/16", ports = [443] },
            { cidr = "8.8.8.0/24", ports = ["80-90", 91] },
        ]
        local.allow = [{ tcp = "8.8.8.8:5432" }]
    "#;
    let policy = compile("t.toml", text).unwrap();
    let last = policy.egress.table.last().unwrap();
    assert_eq!(last.prefix.to_string(), "8.8.8.8/32");
    let ranges: Vec<_> = last.set.ranges[..3]
        .iter()
        .map(|range| (range.flags, range.low, range.high))
        .collect();
    assert_eq!(ranges, [(DOOR, 5432, 5432), (0, 80, 91), (0, 443, 443)]);
}

#[test]
fn own_loopback_is_open_where_nothing_else_is_named() {
    let text = r#"
        version = 1
        tool = "t"
        local.allow = [{ loopback = "own", reason = "a notebook" }, { tcp = "127.0.0.1:5432" }]
    "#;
    let policy = compile("t.toml", text).unwrap();
    let [own, _] = policy.egress.rules.as_slice() else {
        panic!("{:?}", policy.egress.rules);
    };
    assert_eq!(
        (own.text.as_str(), own.reason.as_str()),
        ("loopback own", "a notebook")
    );
    // A ruleset of landlock that shuts all ports would contradict it.
    assert!(!policy.egress.is_offline());
    let shown: Vec<String> = policy
        .egress
        .table
        .iter()
        .map(|entry| {
            let ranges = entry.set.ranges.iter().take(entry.set.count as usize);
            let ranges = ranges.map(|r| format!("{} {} {}-{}", r.flags, r.protocol, r.low, r.high));
            format!("{} {}", entry.prefix, ranges.collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "::1/128 8 6 1-65535, 8 17 1-65535",
            "127.0.0.0/8 8 6 1-65535",
            "127.0.0.1/32 1 6 5432-5432, 8 6 1-65535, 8 17 1-65535",
        ]
    );
}

#[test]
fn a_domain_rule_compiles() {
    let text =
        "version = 1\ntool = \"t\"\n[[egress.allow]]\ndomain = \"A.example.\"\nports = [443]\n";
    let policy = compile("t.toml", text).unwrap();
    assert_eq!(policy.egress.rules[0].text, "domain a.example tcp 443");
    assert!(policy.egress.table.is_empty() && !policy.egress.names.is_empty());
    assert_eq!(policy.egress.names.entries().len(), 1);
}
