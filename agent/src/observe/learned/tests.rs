//! Flows and queries in, lines of a policy out; and whether those lines allow what was seen.

mod bounds;
mod shared;

use std::{net::IpAddr, time::Duration};

use common::{
    event::{self, Hook},
    flow::{Address, TCP, UDP},
    verdict::{Outcome, Reason},
};
use expect_test::{Expect, expect};

use super::{Learned, Proposal, Query, Unseen};
use crate::{
    observe::event::{Event, Names},
    policy::{compile, compiled::CompiledPolicy, domain::DomainName},
    timestamp::Timestamp,
};

const TOOL: &str = "web";

fn at(second: u64) -> Timestamp {
    Timestamp::from(std::time::UNIX_EPOCH + Duration::from_secs(second))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn event(reason: Reason, protocol: u16, address: &str, port: u16) -> Event {
    let outcome = if matches!(reason, Reason::PrivateAddress | Reason::LocalAddress) {
        Outcome::Deny
    } else {
        Outcome::Observe
    };
    let raw = event::Event {
        session: common::id::SessionId(7),
        address: Address::from(ip(address)),
        protocol,
        port,
        outcome: outcome as u8,
        reason: reason as u8,
        hook: Hook::Connect as u8,
        ..event::Event::default()
    };
    let mut event = Event::decode(&raw, &Names::default(), at(0)).expect("event");
    event.tool = Some(TOOL.to_owned());
    event
}

fn ask(learned: &Learned, name: &str, record: &str, addresses: &[&str], second: u64) {
    let addresses: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
    let query = Query {
        name,
        record,
        lacking: true,
        addresses: &addresses,
    };
    learned.query(TOOL, 7, query, at(second));
}

fn dial(learned: &Learned, address: &str, port: u16, second: u64) {
    learned.flow(&event(Reason::NotAllowed, TCP, address, port), at(second));
}

fn proposed(learned: &Learned) -> Proposal {
    let record = learned.record(TOOL, None, None).expect("record");
    Proposal::new(TOOL, &record, Unseen::default())
}

/// The lines, put into a policy that allowed nothing.
fn compiled(proposal: &Proposal) -> CompiledPolicy {
    let text = format!("version = 1\ntool = \"web\"\n{}", proposal.toml);
    match compile("web.toml", &text) {
        Ok(policy) => policy,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// Holds the lines after the head against what is expected of them.
fn check(learned: &Learned, expected: &Expect) {
    const HEAD: &str = "# Proposed for `web` from 1 session(s) in `observe` mode.\n\
                        # No event is missing.\n\
                        # Read each line before it goes into the policy; then `mode = \"enforce\"`.\n\n";
    let proposal = proposed(learned);
    compiled(&proposal);
    let lines = proposal.toml.strip_prefix(HEAD);
    expected.assert_eq(lines.unwrap_or(&proposal.toml));
}

/// Asks for a name and dials its one address.
fn used(learned: &Learned, name: &str, address: &str, port: u16) {
    ask(learned, name, "A", &[address], 1);
    dial(learned, address, port, 2);
}

#[test]
fn names_rather_than_addresses() {
    let learned = Learned::default();
    // Told before the answer that led to it.
    dial(&learned, "198.51.100.7", 443, 5);
    ask(&learned, "api.example", "A", &["198.51.100.7"], 3);
    ask(&learned, "api.example", "AAAA", &[], 4);
    dial(&learned, "198.51.100.7", 443, 9);
    dial(&learned, "8.8.4.4", 9_000, 10);
    dial(&learned, "8.8.4.4", 9_001, 10);
    dial(&learned, "2606:4700::1", 443, 11);
    let quic = event(Reason::NotAllowed, UDP, "198.51.100.7", 443);
    learned.flow(&quic, at(12));
    check(
        &learned,
        &expect![[r#"
        # tcp 443: 2 flows, 1970-01-01T00:00:05.000000Z to 1970-01-01T00:00:09.000000Z
        # asked (A, AAAA): 2 queries, 1970-01-01T00:00:03.000000Z to 1970-01-01T00:00:04.000000Z
        [[egress.allow]]
        domain = "api.example"
        ports = [443]

        # udp 443: 1 flow, 1970-01-01T00:00:12.000000Z
        # asked (A, AAAA): 2 queries, 1970-01-01T00:00:03.000000Z to 1970-01-01T00:00:04.000000Z
        [[egress.allow]]
        domain = "api.example"
        protocol = "udp"
        ports = [443]

        # tcp 9000: 1 flow, 1970-01-01T00:00:10.000000Z
        # tcp 9001: 1 flow, 1970-01-01T00:00:10.000000Z
        [[egress.allow]]
        cidr = "8.8.4.4/32"
        ports = ["9000-9001"]

        # tcp 443: 1 flow, 1970-01-01T00:00:11.000000Z
        [[egress.allow]]
        cidr = "2606:4700::1/128"
        ports = [443]
    "#]],
    );
}

#[test]
fn siblings_become_a_wildcard() {
    let learned = Learned::default();
    for (parent, names, block) in [
        ("cdn.example", &["a", "b", "c"][..], "198.51.100"),
        ("github.io", &["a", "b", "c"], "203.0.113"),
        ("few.example", &["x", "y"], "192.0.2"),
    ] {
        for (number, name) in names.iter().enumerate() {
            let (name, address) = (format!("{name}.{parent}"), format!("{block}.{number}"));
            used(&learned, &name, &address, 443);
        }
    }
    check(
        &learned,
        &expect![[r#"
        # tcp 443: 3 flows, 1970-01-01T00:00:02.000000Z to 1970-01-01T00:00:02.000000Z
        # asked (A): 3 queries, 1970-01-01T00:00:01.000000Z to 1970-01-01T00:00:01.000000Z
        # below it: a.cdn.example, b.cdn.example, c.cdn.example
        [[egress.allow]]
        domain = "*.cdn.example"
        ports = [443]

        # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "a.github.io"
        ports = [443]

        # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "b.github.io"
        ports = [443]

        # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "c.github.io"
        ports = [443]

        # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "x.few.example"
        ports = [443]

        # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "y.few.example"
        ports = [443]
    "#]],
    );
}

#[test]
fn what_the_handshake_showed() {
    let learned = Learned::default();
    used(&learned, "plain.example", "198.51.100.7", 8_080);
    ask(&learned, "shared.example", "A", &["198.51.100.8"], 1);
    let mut other = event(Reason::TlsName, TCP, "198.51.100.8", 443);
    other.name = Some("other.example".to_owned());
    learned.flow(&other, at(3));
    ask(&learned, "binary.example", "A", &["198.51.100.9"], 1);
    learned.flow(
        &event(Reason::TlsMalformed, TCP, "198.51.100.9", 443),
        at(4),
    );
    ask(&learned, "hidden.example", "A", &["198.51.100.10"], 1);
    learned.flow(&event(Reason::TlsHidden, TCP, "198.51.100.10", 443), at(5));
    check(
        &learned,
        &expect![[r#"
        # tcp 443: 1 flow, 1970-01-01T00:00:04.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "binary.example"
        ports = [443]
        tls = "off"

        # tcp 443: 1 flow, 1970-01-01T00:00:05.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        [[egress.allow]]
        domain = "hidden.example"
        ports = [443]
        ech = "allow"

        # tcp 443: 1 flow, 1970-01-01T00:00:03.000000Z
        [[egress.allow]]
        domain = "other.example"
        ports = [443]

        # tcp 8080: 1 flow, 1970-01-01T00:00:02.000000Z
        # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
        # whether TLS is spoken here was not looked at: take `tls = "off"` away if it is
        [[egress.allow]]
        domain = "plain.example"
        ports = [8080]
        tls = "off"

        # Not opened by the lines above:
        # * `shared.example` (A): 1 query, 1970-01-01T00:00:01.000000Z, and no flow led to it: a rule needs a port
    "#]],
    );
}

#[test]
fn what_no_line_opens_is_said() {
    let learned = Learned::default();
    learned.flow(
        &event(Reason::PrivateAddress, TCP, "10.0.0.1", 5_432),
        at(1),
    );
    learned.flow(&event(Reason::LocalAddress, TCP, "127.0.0.1", 80), at(1));
    ask(&learned, "asked-only.example", "A", &["198.51.100.7"], 1);
    ask(&learned, r"bad\027[2Jname.example", "A", &[], 1);
    ask(&learned, "localname", "A", &[], 1);
    ask(&learned, "_dmarc.mail.example", "TXT", &[], 2);
    check(
        &learned,
        &expect![[r#"
            # asked (TXT): 1 query, 1970-01-01T00:00:02.000000Z
            [[egress.allow]]
            domain = "_dmarc.mail.example"
            records = ["TXT"]

            # Not opened by the lines above:
            # * tcp 127.0.0.1 port 80: the destination is this host: 1 flow, 1970-01-01T00:00:01.000000Z
            #     [[local.allow]]
            #     tcp = "127.0.0.1:80"
            # * tcp 10.0.0.1 port 5432: the destination is a private, special-purpose or metadata address: 1 flow, 1970-01-01T00:00:01.000000Z
            #     [[egress.allow_private]]
            #     cidr = "10.0.0.1/32"
            #     protocol = "tcp"
            #     ports = [5432]
            #     reason = "..."
            # * `asked-only.example` (A): 1 query, 1970-01-01T00:00:01.000000Z, and no flow led to it: a rule needs a port
            # * `bad\027[2Jname.example` (A): 1 query, 1970-01-01T00:00:01.000000Z: no name that a rule takes
            # * `localname` (A): 1 query, 1970-01-01T00:00:01.000000Z: no name that a rule takes
        "#]],
    );
}

/// A name out of a hostile answer or handshake never leaves its comment or its string.
#[test]
fn hostile_names_stay_in_comments() {
    let learned = Learned::default();
    for name in [
        "a\"\n[[egress.allow_private]]\ncidr = \"10.0.0.0/8\"\n.example",
        "x\r\n[worker].example",
        "# .example",
        "*.example",
        "тест.example\u{85}",
    ] {
        let shown = crate::observe::name::shown(name.bytes());
        ask(&learned, &shown, "A", &["198.51.100.7"], 1);
        let mut event = event(Reason::TlsName, TCP, "198.51.100.7", 443);
        event.name = Some(shown);
        learned.flow(&event, at(2));
    }
    let proposal = proposed(&learned);
    assert!(
        compiled(&proposal).egress.rules.is_empty(),
        "{}",
        proposal.toml
    );
    assert!(
        proposal
            .toml
            .lines()
            .all(|line| line.is_empty() || line.starts_with('#'))
    );
}

/// What was asked and dialled is covered by what is proposed, and nothing else is.
#[test]
fn the_proposal_covers_what_was_seen() {
    let learned = Learned::default();
    let names = [
        "api.example",
        "a.cdn.example",
        "b.cdn.example",
        "c.cdn.example",
    ];
    for (number, name) in names.iter().enumerate() {
        let address = format!("198.51.100.{number}");
        used(&learned, name, &address, 443);
        used(&learned, name, &address, 80);
    }
    let policy = compiled(&proposed(&learned));
    let covers = |name: &str, port: u16| {
        let name = DomainName::parse(name).expect("name");
        let mut rules = policy.egress.names.covering(&policy.egress.rules, &name);
        rules.any(|rule| {
            let mut ranges = rule.grant_ranges();
            ranges.any(|range| (range.low..=range.high).contains(&port))
        })
    };
    for name in names {
        assert!(covers(name, 443) && covers(name, 80), "{name}");
        assert!(!covers(name, 22), "{name}");
    }
    assert!(!covers("cdn.example", 443) && !covers("other.example", 443));
}
