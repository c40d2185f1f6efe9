//! Large policies: limits are reported, and many rules compile in a bearable time.

use std::{fmt::Write as _, time::Instant};

use common::{flow::Address, limits::RULES_PER_POLICY_MAX};

use crate::policy::{
    compile,
    compiled::{DomainRule, Prefix, Rule, Target},
    domain::{DomainName, DomainPattern},
    error::Code,
    names::NameTable,
    table,
};

/// Rules of distinct public blocks, a covering block for every 256 of them.
fn text(rules: u32) -> String {
    let mut text = String::from("version = 1\ntool = \"t\"\n");
    for at in 0..rules {
        let ip = std::net::Ipv4Addr::from(0x1400_0000 + at);
        let rule = "[[egress.allow]]\ncidr = \"{ip}/32\"\nports = [443]\n";
        text.push_str(&rule.replace("{ip}", &ip.to_string()));
        if at % 256 == 0 {
            let cover = "[[egress.allow]]\ncidr = \"{ip}/24\"\nports = [\"9000-9010\"]\n";
            text.push_str(&cover.replace("{ip}", &ip.to_string()));
        }
    }
    text
}

#[test]
fn ten_thousand_rules_compile() {
    let start = Instant::now();
    let policy = compile("t.toml", &text(10_000)).unwrap();
    let took = start.elapsed();
    assert_eq!(policy.egress.table.len(), 10_000 + 40);
    assert_eq!(
        policy.egress.table[1].set.count, 2,
        "covering ranges come along"
    );
    // Unoptimised and beside other tests it is seconds; a quadratic step would take many minutes.
    assert!(took.as_secs() < 60, "{took:?}");
}

#[test]
fn the_table_of_a_hundred_thousand_rules_is_built() {
    let some = compile("t.toml", &text(1)).unwrap().egress.rules;
    let rules: Vec<Rule> = (0..100_000_u32)
        .rev()
        .map(|at| Rule {
            target: Target::Prefix(Prefix::host(Address::from_v4(
                (0x1400_0000 + at).to_be_bytes(),
            ))),
            ..some[0].clone()
        })
        .chain(some.iter().skip(1).cloned())
        .collect();
    let start = Instant::now();
    let table = table::build(&rules).unwrap();
    let took = start.elapsed();
    assert_eq!(table.len(), 100_001);
    assert_eq!((table[0].set.count, table[255].set.count), (1, 2));
    assert_eq!(table[257].set.count, 1, "the block ends there");
    assert!(took.as_secs() < 60, "{took:?}");
}

#[test]
fn more_rules_than_a_policy_may_have_are_refused_before_they_are_read() {
    let most = usize::try_from(RULES_PER_POLICY_MAX).unwrap();
    let rules = |count: usize| format!("[{}]", "{},".repeat(count));
    let text = format!(
        "version = 1\ntool = \"t\"\negress.allow = {}\nlocal.allow = {}\n",
        rules(most),
        rules(1)
    );
    let error = compile("t.toml", &text).unwrap_err();
    assert_eq!(error.findings().len(), 1);
    assert_eq!(error.findings()[0].code, Code::OutOfBounds);
    assert_eq!(error.place(&error.findings()[0]).0, 4);
}

/// Names of distinct zones, a wildcard over every 256 of them.
fn names(count: u32) -> String {
    let mut text = String::from("version = 1\ntool = \"t\"\negress.allow = [\n");
    for at in 0..count {
        let zone = at / 256;
        writeln!(
            text,
            "{{ domain = \"n{at}.z{zone}.example\", ports = [443] }},"
        )
        .unwrap();
        if at % 256 == 0 {
            writeln!(
                text,
                "{{ domain = \"*.z{zone}.example\", ports = [8443] }},"
            )
            .unwrap();
        }
    }
    text.push_str("]\n");
    text
}

#[test]
fn a_hundred_thousand_names_are_indexed_and_found() {
    // The text of so many rules takes its time unoptimised: the index is timed alone.
    let some = compile("t.toml", &names(257)).unwrap().egress.rules;
    let named = |pattern: String| {
        let domain = DomainRule {
            pattern: DomainPattern::parse(&pattern).unwrap(),
            ..some[0].domain().unwrap().clone()
        };
        Rule {
            target: Target::Domain(domain),
            ..some[0].clone()
        }
    };
    let rules: Vec<Rule> = (0..100_000_u32)
        .map(|at| named(format!("n{at}.z{}.example", at % 400)))
        .chain((0..400).map(|zone| named(format!("*.z{zone}.example"))))
        .collect();
    let start = Instant::now();
    let table = NameTable::build(&rules).unwrap();
    assert_eq!(table.entries().len(), 100_400);
    let mut found = 0;
    for at in 0..100_000_u32 {
        let name = DomainName::from_query(&format!("N{at}.Z{}.example.", at % 400)).unwrap();
        found += table.covering(&rules, &name).count();
    }
    let took = start.elapsed();
    assert_eq!(found, 200_000, "each by its name and by its wildcard");
    // Unoptimised and beside other tests it is a second; a walk over the rules would take hours.
    assert!(took.as_secs() < 60, "{took:?}");
}

#[test]
fn ten_thousand_names_compile() {
    let start = Instant::now();
    let policy = compile("t.toml", &names(10_000)).unwrap();
    let took = start.elapsed();
    assert_eq!(policy.egress.names.entries().len(), 10_000 + 40);
    assert!(took.as_secs() < 60, "{took:?}");
}

#[test]
fn a_deep_nest_of_blocks_is_united() {
    let mut text = String::from("version = 1\ntool = \"t\"\n");
    for length in 17..=32 {
        writeln!(
            text,
            "[[egress.allow]]\ncidr = \"8.8.0.0/{length}\"\nports = [{}]",
            length * 100
        )
        .unwrap();
    }
    let policy = compile("t.toml", &text).unwrap();
    let counts: Vec<u32> = policy
        .egress
        .table
        .iter()
        .map(|entry| entry.set.count)
        .collect();
    assert_eq!(counts, (1..=16).collect::<Vec<u32>>());
}
