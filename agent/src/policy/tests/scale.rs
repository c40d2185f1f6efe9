//! Large policies: limits are reported, and 100,000 rules compile in a bearable time.

use std::{fmt::Write as _, time::Instant};

use common::limits::RULES_PER_POLICY_MAX;

use crate::policy::{compile, error::Code};

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
fn a_hundred_thousand_rules_compile() {
    let text = text(100_000);
    let start = Instant::now();
    let policy = compile("t.toml", &text).unwrap();
    let took = start.elapsed();
    assert_eq!(policy.egress.table.len(), 100_000 + 391);
    assert_eq!(
        policy.egress.table[1].set.count, 2,
        "covering ranges come along"
    );
    println!("100,000 rules: {took:?}");
    // Unoptimised and beside other tests it is most of a minute; a quadratic step would take hours.
    assert!(took.as_secs() < 300, "{took:?}");
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
