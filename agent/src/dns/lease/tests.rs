//! Which addresses a session sees, and what the kernel is told first.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    flow::Address,
    id::{Generation, SessionId},
    rule::{PortRange, TLS},
};

use super::{GRACE, GrantRefused, Granter, Leased, Lessee};
use crate::{
    clock::BootTime,
    dns::{
        gate::Question,
        session::{Session, lock},
        settings::IsLocal,
    },
    policy::{
        compile,
        compiled::{CompiledPolicy, Record, RuleKind, Target},
        domain::DomainName,
    },
};

const POLICY: &str = r#"
version = 1
tool = "t"
[[egress.allow]]
domain = "www.site.example"
ports = [443]
[[egress.allow]]
domain = "*.site.example"
ports = [54, 8443]
protocol = "udp"
[[egress.allow]]
domain = "www.site.example"
records = ["TXT"]
[[egress.allow_private]]
cidr = "10.20.0.0/24"
protocol = "tcp"
ports = [5432]
reason = "a database"
[[local.allow]]
tcp = "127.0.0.1:5432"
"#;

#[derive(Default)]
struct Fake {
    given: Mutex<Vec<(Address, Vec<PortRange>, BootTime)>>,
    refuses: Vec<Address>,
}

impl Granter for Fake {
    fn give(
        &self,
        _session: SessionId,
        address: Address,
        ranges: &[PortRange],
        expires: BootTime,
    ) -> Result<(), GrantRefused> {
        if self.refuses.contains(&address) {
            return Err(GrantRefused);
        }
        lock(&self.given).push((address, ranges.to_vec(), expires));
        Ok(())
    }
}

struct Case {
    policy: CompiledPolicy,
    generation: Generation,
    session: Session,
    fake: Fake,
}

impl Case {
    fn new() -> Self {
        Self {
            policy: compile("t.toml", POLICY).expect("a policy"),
            generation: Generation(1),
            session: Session::default(),
            fake: Fake::default(),
        }
    }

    fn lease(&self, name: &str, addresses: &[&str], ttl: u32, now: BootTime) -> Leased {
        let is_local: IsLocal = Arc::new(|address| *address == Address::from_v4([9, 9, 9, 9]));
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        let question = Question {
            name: DomainName::parse(name).expect("a name"),
            record: Record::A,
        };
        let lessee = Lessee {
            id: SessionId(1),
            session: &self.session,
            policy: &self.policy,
            generation: self.generation,
            question: &question,
        };
        lessee.lease(&addresses, ttl, &self.fake, &is_local, now)
    }

    fn given(&self) -> usize {
        lock(&self.fake.given).len()
    }
}

const NOW: BootTime = BootTime(1_000_000_000_000);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_grant_opens_what_the_rules_of_the_name_and_type_open() {
    let case = Case::new();
    let leased = case.lease("www.site.example", &["8.8.8.8"], 300, NOW);
    assert_eq!(leased, Leased::Addresses(vec![ip("8.8.8.8")]));
    let given = lock(&case.fake.given);
    let (address, ranges, expires) = &given[0];
    assert_eq!(*address, Address::from_v4([8, 8, 8, 8]));
    assert_eq!(*expires, NOW + Duration::from_mins(5) + GRACE);
    let ports: Vec<_> = ranges
        .iter()
        .map(|range| (range.protocol, range.low, range.flags & TLS != 0))
        .collect();
    assert_eq!(ports, [(6, 443, true), (17, 54, false), (17, 8443, false)]);
}

#[test]
fn times_of_grants_have_a_floor_and_a_ceiling() {
    for (ttl, seconds) in [
        (0, 60),
        (59, 60),
        (61, 61),
        (86_400, 86_400),
        (u32::MAX, 86_400),
    ] {
        let case = Case::new();
        case.lease("www.site.example", &["8.8.8.8"], ttl, NOW);
        let expires = lock(&case.fake.given)[0].2;
        assert_eq!(expires, NOW + Duration::from_secs(seconds) + GRACE, "{ttl}");
    }
}

#[test]
fn special_addresses_are_left_out_unless_a_door_names_them() {
    let case = Case::new();
    for hidden in [
        "10.0.0.1",
        "10.20.1.5",
        "127.0.0.2",
        "0.0.0.0",
        "169.254.169.254",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "9.9.9.9",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "2001:db8::1",
        "::ffff:8.8.8.8",
        "::ffff:10.20.0.5",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:0a00:0001::1",
        "::10.0.0.1",
    ] {
        let leased = case.lease("www.site.example", &[hidden], 300, NOW);
        assert_eq!(leased, Leased::Private(ip(hidden)), "{hidden}");
    }
    assert_eq!(case.given(), 0);
    let mixed = ["10.0.0.1", "8.8.8.8", "10.20.0.5", "127.0.0.1"];
    let leased = case.lease("www.site.example", &mixed, 300, NOW);
    let seen = vec![ip("8.8.8.8"), ip("10.20.0.5"), ip("127.0.0.1")];
    assert_eq!(leased, Leased::Addresses(seen));
    assert_eq!(case.given(), 1, "a door needs no grant");
    assert_eq!(case.lease("www.site.example", &[], 300, NOW), Leased::None);
}

#[test]
fn a_grant_is_written_again_only_near_its_end() {
    let case = Case::new();
    let ask = |ttl, after| {
        case.lease(
            "www.site.example",
            &["8.8.8.8"],
            ttl,
            NOW + Duration::from_secs(after),
        );
        case.given()
    };
    assert_eq!(ask(300, 0), 1);
    assert_eq!(ask(200, 100), 1, "the same answer, older");
    assert_eq!(ask(0, 300), 1, "within the slack");
    assert_eq!(ask(0, 301), 2);
    assert_eq!(ask(3_600, 302), 3, "a longer answer");
    // Another name on the same address opens other ports.
    case.lease("other.site.example", &["8.8.8.8"], 300, NOW);
    assert_eq!(case.given(), 4);
}

#[test]
fn another_generation_of_rules_gives_anew() {
    let mut case = Case::new();
    for (generation, given) in [(1, 1), (1, 1), (3, 2), (3, 2), (1, 3)] {
        case.generation = Generation(generation);
        case.lease("www.site.example", &["8.8.8.8"], 300, NOW);
        assert_eq!(case.given(), given, "generation {generation}");
    }
}

/// The look-up is the rules' own opinion: every rule read, one after the other.
#[test]
fn a_door_is_found_as_the_rules_say() {
    let doors: Vec<String> = (0..200_u8)
        .map(|number| {
            let (block, length) = match number % 4 {
                0 => (format!("10.{number}.0.0"), 16),
                1 => (format!("10.{}.{number}.0", number - 1), 24),
                2 => (format!("192.168.{number}.8"), 30),
                _ => (format!("fd00:{number}::"), 32),
            };
            format!(
                "[[egress.allow_private]]\ncidr = \"{block}/{length}\"\nprotocol = \"tcp\"\n\
                 ports = [1]\nreason = \"one of many\"\n"
            )
        })
        .collect();
    let text = format!("{POLICY}\n{}", doors.concat());
    let policy = compile("t.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let by_rules = |address| {
        let mut doors = policy
            .egress
            .rules
            .iter()
            .filter(|rule| matches!(rule.kind, RuleKind::AllowPrivate | RuleKind::Local));
        doors.any(|rule| matches!(&rule.target, Target::Prefix(prefix) if prefix.contains(address)))
    };
    let (mut found, mut missed) = (0, 0);
    for number in 0..=u8::MAX {
        for text in [
            format!("10.{number}.0.1"),
            format!("10.{number}.{}.1", number.wrapping_add(1)),
            format!("192.168.{number}.9"),
            format!("192.168.{number}.12"),
            format!("fd00:{number}::1"),
            format!("127.0.0.{number}"),
        ] {
            let address = Address::from(ip(&text));
            let expected = by_rules(address);
            assert_eq!(super::has_door(&policy, address), expected, "{text}");
            *(if expected { &mut found } else { &mut missed }) += 1;
        }
    }
    assert!(found > 150 && missed > 150, "{found} found, {missed} not");
}

#[test]
fn an_address_without_its_grant_is_not_told() {
    let mut case = Case::new();
    case.fake.refuses = vec![Address::from_v4([8, 8, 8, 8])];
    let leased = case.lease("www.site.example", &["8.8.8.8", "8.8.4.4"], 300, NOW);
    assert_eq!(leased, Leased::Addresses(vec![ip("8.8.4.4")]));
    let leased = case.lease("www.site.example", &["10.0.0.1", "8.8.8.8"], 300, NOW);
    assert_eq!(leased, Leased::Full(ip("8.8.8.8")));
}

#[test]
fn a_name_of_no_rule_gets_no_grant() {
    // `observe` answers it; the kernel passes the flow for the same reason.
    let case = Case::new();
    let leased = case.lease("other.test", &["8.8.8.8"], 300, NOW);
    assert_eq!(leased, Leased::Addresses(vec![ip("8.8.8.8")]));
    assert_eq!(case.given(), 0);
}
