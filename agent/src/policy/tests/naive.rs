//! The compiled table and `decide` against a naive reading of the same TOML: every rule in turn,
//! masks compared, special ranges from a list written down a second time, with the standard
//! library's types only.

mod ranges;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use common::{
    flow::{Address, TCP, UDP},
    verdict::{Reason, Verdict},
};
use proptest::prelude::*;
use toml::Table;

use self::ranges::{Kind, carried, inside4, inside6, kind, kind4};
use crate::policy::{compile, model::Model};

/// Whether one rule of the document covers the flow.
fn covers(rule: &Table, ip: IpAddr, protocol: &str, port: u16) -> bool {
    let (network, length) = match rule.get("cidr") {
        Some(cidr) => {
            let (network, length) = cidr.as_str().unwrap().split_once('/').unwrap();
            (network.to_owned(), length.parse().unwrap())
        }
        None => return covers_local(rule, ip, protocol, port),
    };
    let address = match (ip.to_canonical(), network.contains(':')) {
        (IpAddr::V4(v4), false) => inside4(v4, &network, length),
        (IpAddr::V6(v6), true) => inside6(v6, &network, length),
        _ => false,
    };
    let wanted = rule
        .get("protocol")
        .map_or("tcp", |word| word.as_str().unwrap());
    let ports = rule.get("ports").unwrap().as_array().unwrap();
    let open = ports.iter().any(|item| {
        let text = item.to_string();
        let range = text.trim_matches('"');
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        (low.parse().unwrap()..=high.parse().unwrap()).contains(&port)
    });
    address && protocol == wanted && open
}

fn covers_local(rule: &Table, ip: IpAddr, protocol: &str, port: u16) -> bool {
    let Some(tcp) = rule.get("tcp") else {
        return false;
    };
    let tcp = tcp.as_str().unwrap();
    protocol == "tcp" && tcp == std::net::SocketAddr::new(ip.to_canonical(), port).to_string()
}

/// Why a flow passes.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum Passed {
    /// By a rule.
    By,
    /// By `loopback = "own"`.
    Own,
    /// Only observed.
    Observed,
}

/// What the document says.
fn naive(
    document: &Table,
    ip: IpAddr,
    protocol: &str,
    port: u16,
    here: bool,
) -> Result<Passed, Reason> {
    if let Some(v4) = carried(ip) {
        match kind4(v4) {
            Kind::Public => {}
            Kind::Local => return Err(Reason::LocalAddress),
            Kind::Private => return Err(Reason::PrivateAddress),
        }
    }
    if port == 53 {
        return Err(Reason::Resolver);
    }
    // Loopback to TCP; to UDP the one address that can be no broadcast.
    let own = document.get("local").and_then(|table| table.get("allow"));
    let own = own.is_some_and(|rules| {
        let mut rules = rules.as_array().unwrap().iter();
        rules.any(|rule| rule.get("loopback").is_some())
    });
    let loopback = ip.to_canonical().is_loopback()
        && (protocol == "tcp"
            || ["127.0.0.1", "::1"].contains(&ip.to_canonical().to_string().as_str()));
    let any = |section: &str, key: &str| {
        let rules = document.get(section).and_then(|table| table.get(key));
        rules.is_some_and(|rules| {
            let rules = rules.as_array().unwrap();
            rules
                .iter()
                .any(|rule| covers(rule.as_table().unwrap(), ip, protocol, port))
        })
    };
    if any("egress", "allow_private") || any("local", "allow") {
        return Ok(Passed::By);
    }
    if own && loopback {
        return Ok(Passed::Own);
    }
    match kind(ip) {
        _ if here => Err(Reason::LocalAddress),
        Kind::Local => Err(Reason::LocalAddress),
        Kind::Private => Err(Reason::PrivateAddress),
        Kind::Public if any("egress", "allow") => Ok(Passed::By),
        Kind::Public if document["mode"].as_str() == Some("observe") => Ok(Passed::Observed),
        Kind::Public => Err(Reason::NotAllowed),
    }
}

/// Few networks and few ports, so that rules nest, overlap and are hit.
const PUBLIC_BASES: &[&str] = &[
    "8.8.8.8",
    "8.8.0.1",
    "9.9.9.9",
    "192.0.0.9",
    "2606:50c0::1",
    "64:ff9b::808:808",
    "2001:4:112::1",
];
const PRIVATE_BASES: &[&str] = &[
    "10.20.0.5",
    "10.20.7.1",
    "172.20.0.1",
    "203.0.113.9",
    "fd12:3456::7",
    "2002:808:808::1",
    "fe80::1",
];
const PORTS: &[u16] = &[1, 22, 52, 53, 54, 80, 443, 8443, 65535];

fn cidr(bases: &'static [&'static str], least4: u8, least6: u8) -> impl Strategy<Value = String> {
    (prop::sample::select(bases), 0_u8..=128).prop_map(move |(base, length)| {
        match base.parse().unwrap() {
            IpAddr::V4(v4) => {
                let length = length % (33 - least4) + least4;
                let mask = u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
                format!("{}/{length}", Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) => {
                let length = length % (129 - least6) + least6;
                let mask = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
                format!("{}/{length}", Ipv6Addr::from(u128::from(v6) & mask))
            }
        }
    })
}

fn ports() -> impl Strategy<Value = String> {
    let one = prop::sample::select(PORTS)
        .prop_filter("no rule opens it", |port| *port != 53)
        .prop_map(|port| port.to_string());
    let range = (prop::sample::select(PORTS), prop::sample::select(PORTS))
        .prop_filter("not 53 alone", |(a, b)| (*a, *b) != (53, 53))
        .prop_map(|(a, b)| format!("\"{}-{}\"", a.min(b), a.max(b)));
    prop::collection::vec(prop_oneof![one, range], 1..3).prop_map(|list| list.join(", "))
}

fn policy() -> impl Strategy<Value = String> {
    let protocol = || prop::sample::select(&["tcp", "udp"][..]);
    let allow = (cidr(PUBLIC_BASES, 8, 20), protocol(), ports()).prop_map(|(cidr, protocol, ports)| {
        format!("[[egress.allow]]\ncidr = \"{cidr}\"\nprotocol = \"{protocol}\"\nports = [{ports}]\n")
    });
    let private =
        (cidr(PRIVATE_BASES, 16, 32), protocol(), ports()).prop_map(|(cidr, protocol, ports)| {
            format!("[[egress.allow_private]]\ncidr = \"{cidr}\"\nprotocol = \"{protocol}\"\nports = [{ports}]\nreason = \"r\"\n")
        });
    let local = (
        prop::sample::select(&["127.0.0.1", "8.8.8.8", "[::1]"][..]),
        prop::sample::select(&[80_u16, 443][..]),
    )
        .prop_map(|(ip, port)| format!("[[local.allow]]\ntcp = \"{ip}:{port}\"\n"));
    let own = Just("[[local.allow]]\nloopback = \"own\"\n".to_owned());
    (
        prop::sample::select(&["enforce", "observe"][..]),
        prop::collection::vec(
            prop_oneof![4 => allow, 3 => private, 1 => local, 1 => own],
            0..7,
        ),
    )
        .prop_map(|(mode, rules)| {
            format!(
                "version = 1\ntool = \"t\"\nmode = \"{mode}\"\n{}",
                rules.concat()
            )
        })
}

fn address() -> impl Strategy<Value = IpAddr> {
    let listed: Vec<IpAddr> = PUBLIC_BASES
        .iter()
        .chain(PRIVATE_BASES)
        .chain(&[
            "127.0.0.1",
            "127.9.9.9",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "169.254.169.254",
        ])
        .chain(&[
            "::ffff:8.8.8.8",
            "::ffff:10.20.0.5",
            "::8.8.8.8",
            "64:ff9b::a00:1",
        ])
        .chain(&[
            "2001:0:1::f5ff:fffe",
            "2002:a00:1::1",
            "192.0.0.8",
            "255.255.255.255",
        ])
        .map(|text| text.parse().unwrap())
        .collect();
    let near = (prop::sample::select(listed.clone()), 0_u32..32).prop_map(|(ip, bit)| match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) ^ (1 << bit))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) ^ (1 << (bit * 4)))),
    });
    prop_oneof![
        3 => prop::sample::select(listed),
        3 => near,
        1 => any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        1 => any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

fn flow() -> impl Strategy<Value = (IpAddr, &'static str, u16, bool)> {
    let port = prop_oneof![4 => prop::sample::select(PORTS), 1 => 1_u16..];
    let protocol = prop::sample::select(&["tcp", "udp"][..]);
    (address(), protocol, port, prop::bool::weighted(0.1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_policy_says_what_the_document_says(
        text in policy(),
        flows in prop::collection::vec(flow(), 32),
    ) {
        // Some of the random documents are refused (a block that reaches into a special range,
        // the same rule twice); there is nothing to compare then.
        let Ok(policy) = compile("t.toml", &text) else {
            return Ok(());
        };
        let document: Table = text.parse().unwrap();
        for (ip, protocol, port, here) in flows {
            let address = Address::from(ip);
            let hosts = if here { BTreeSet::from([address]) } else { BTreeSet::new() };
            let model = Model::new(&policy, hosts);
            let number = if protocol == "tcp" { TCP } else { UDP };
            let verdict = model.decide(&model.flow(number, address, port));
            let expected = naive(&document, ip, protocol, port, here);
            let agree = match (verdict, expected) {
                (Verdict::Allow(id), Ok(Passed::By)) | (Verdict::AllowOwn(id), Ok(Passed::Own)) => {
                    policy.egress.rules.iter().any(|rule| rule.id == id)
                }
                (Verdict::Observe(_), Ok(Passed::Observed)) => true,
                (Verdict::Deny(got), Err(wanted)) => got == wanted,
                (Verdict::Resolver, Err(wanted)) => wanted == Reason::Resolver,
                _ => false,
            };
            prop_assert!(
                agree,
                "{ip} {protocol} {port} here={here}: {verdict:?}, naive {expected:?}\n{text}"
            );
        }
    }

    #[test]
    fn no_text_makes_the_compiler_stumble(text in "[a-z0-9\\[\\]\"= \n.,{}:/-]{0,200}") {
        let head = format!("version = 1\ntool = \"t\"\n{text}");
        if let Err(error) = compile("t.toml", &head) {
            prop_assert!(!error.findings().is_empty());
            prop_assert!(!error.plain().is_empty() && !error.graphical(false, 80).is_empty());
        }
    }

    #[test]
    fn any_bytes_of_a_policy_may_be_lost(at in 0_usize..600, length in 1_usize..40) {
        let text = include_str!("../testdata/bad/unsupported.toml");
        let start = text.floor_char_boundary(at);
        let end = text.floor_char_boundary((start + length).min(text.len()));
        let cut = format!("{}{}", &text[..start.min(end)], &text[end..]);
        prop_assert!(compile("t.toml", &cut).is_err());
    }
}

#[test]
fn most_random_policies_are_compared() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let compiled = (0..500)
        .filter(|_| {
            let text = policy().new_tree(&mut runner).unwrap().current();
            compile("t.toml", &text).is_ok()
        })
        .count();
    assert!(compiled > 200, "{compiled} of 500");
}
