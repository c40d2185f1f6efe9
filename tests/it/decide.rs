//! The host's model and the kernel hold the same opinion of random flows under random policies: the
//! model says what `explain` would, the kernel is asked by real sockets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use agent::policy::{self, compiled::CompiledPolicy, model::Model};
use common::{
    flow::{Address, TCP, UDP},
    verdict::Verdict,
};
use lab::net::{HOST_SECOND_V4, HOST_V4, HOST_V6};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use crate::{
    counts,
    hooks::fence::{HookFence, compiled},
};

/// Public blocks that rules are made in.
pub(crate) const PUBLIC: &[(&str, u8)] = &[
    ("93.184.0.0", 16),
    ("185.199.108.0", 22),
    ("1.2.3.0", 24),
    ("2606:2800::", 32),
    ("2a00:1450:4000::", 48),
    ("64:ff9b::102:300", 120),
];
/// Special-purpose blocks that doors are made in.
pub(crate) const PRIVATE: &[(&str, u8)] = &[
    ("10.20.0.0", 16),
    ("192.168.1.0", 24),
    ("100.64.1.0", 24),
    ("fd00:1::", 64),
];
/// Blocks that flows go to beside these.
pub(crate) const ELSEWHERE: &[(&str, u8)] = &[
    ("169.254.169.254", 32),
    ("127.0.0.0", 8),
    ("172.16.0.0", 12),
    ("198.18.0.0", 15),
    ("0.0.0.0", 0),
    ("45.33.32.2", 32),
    ("45.79.1.1", 32),
    ("2600:3c01::2", 128),
    ("::1", 128),
    ("::ffff:10.20.0.0", 112),
    ("::ffff:93.184.0.0", 112),
    ("64:ff9b::a14:0", 112),
    ("2002:a14::", 32),
    ("2001:0:5db8::", 48),
    ("fe80::", 64),
    ("2a00::", 12),
];
pub(crate) const PORTS: &[u16] = &[22, 53, 80, 443, 444, 8443, 9000, 9005, 9010, 9011];

pub(crate) fn address(blocks: &'static [(&'static str, u8)]) -> impl Strategy<Value = IpAddr> {
    (
        proptest::sample::select(blocks),
        any::<u128>(),
        any::<bool>(),
    )
        .prop_map(|((network, length), noise, narrow)| {
            let network: IpAddr = network.parse().expect("an address of the table");
            // Most noise in the last bits: borders of narrow prefixes are where mistakes live.
            let noise = if narrow { noise & 0x3 } else { noise };
            match network {
                IpAddr::V4(v4) => {
                    let mask = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                    let noise = u32::try_from(noise & u128::from(mask)).expect("32 bits");
                    Ipv4Addr::from(u32::from(v4) | noise).into()
                }
                IpAddr::V6(v6) => {
                    let mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                    Ipv6Addr::from(u128::from(v6) | (noise & mask)).into()
                }
            }
        })
}

fn rule(
    table: &'static str,
    blocks: &'static [(&'static str, u8)],
) -> impl Strategy<Value = String> {
    let ports = proptest::sample::select(
        &[
            "443",
            "\"443-444\"",
            "80, 8443",
            "\"9000-9010\"",
            "22, 443, \"9005-9010\"",
        ][..],
    );
    let block = proptest::sample::select(blocks);
    (block, any::<u128>(), 0..6_u8, any::<bool>(), ports).prop_map(
        move |((network, least), noise, shorter, udp, ports)| {
            let network: IpAddr = network.parse().expect("an address of the table");
            // Both families left-aligned in 128 bits.
            let (bits, width, unused) = match network {
                IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32, 96),
                IpAddr::V6(v6) => (u128::from(v6), 128, 0),
            };
            let length = (width - shorter).max(least);
            let free = u128::MAX.checked_shr(least.into()).unwrap_or(0);
            let mask = !u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = (bits | (((noise & 0x3f) << unused) & free)) & mask;
            let network: IpAddr = match network {
                IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(bits >> 96).expect("32 bits")).into(),
                IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
            };
            let protocol = if udp { "udp" } else { "tcp" };
            let reason = if table == "egress.allow_private" {
                "reason = \"test\"\n"
            } else {
                ""
            };
            format!(
                "[[{table}]]\ncidr = \"{network}/{length}\"\nprotocol = \"{protocol}\"\n\
                 ports = [{ports}]\n{reason}"
            )
        },
    )
}

pub(crate) fn policies() -> impl Strategy<Value = String> {
    let rules = proptest::collection::vec(rule("egress.allow", PUBLIC), 1..12);
    let doors = proptest::collection::vec(rule("egress.allow_private", PRIVATE), 0..4);
    (rules, doors, any::<bool>()).prop_map(|(rules, doors, observe)| {
        let mode = if observe { "observe" } else { "enforce" };
        format!(
            "version = 1\ntool = \"random\"\nmode = \"{mode}\"\n[worker]\ncommand = [\"/bin/true\"]\n\
             protocol = \"exec\"\n[filesystem]\nexecute = [\"/bin\"]\n{}{}",
            rules.concat(),
            doors.concat()
        )
    })
    // Chance writes rules twice, which is an error.
    .prop_filter("compiles", |text| policy::compile("random.toml", text).is_ok())
}

fn flow() -> impl Strategy<Value = (bool, IpAddr, u16)> {
    let to = prop_oneof![
        4 => address(PUBLIC),
        2 => address(PRIVATE),
        3 => address(ELSEWHERE),
    ];
    (any::<bool>(), to, proptest::sample::select(PORTS))
}

#[test]
fn kernel_and_model_agree_on_random_flows() {
    let fence = HookFence::new(&generate(&mut TestRunner::deterministic(), &policies()));
    let mut runner = TestRunner::new(Config::default());
    let mut prober = fence.prober();
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..counts::policies() {
        let text = generate(&mut runner, &policies());
        let policy = compiled(&text, Path::new("/"));
        fence.swap(&policy);
        for _ in 0..counts::flows() {
            let (is_tcp, ip, port) = generate(&mut runner, &flow());
            let model = passes(&policy, is_tcp, ip, port);
            let answer = prober
                .ask(&script(is_tcp, ip, port))
                .expect("the prober answers");
            // A port without a listener resets: the kernel let the packet out. An address that no
            // route leads to is refused by the routing table, not by us.
            let kernel = answer.errno() != "EPERM";
            assert_ne!(
                answer.errno(),
                "TIMEOUT",
                "dropped where a hook can answer: {ip} {port}"
            );
            assert_eq!(
                model,
                kernel,
                "{} {ip} port {port}: {answer:?}\n{text}",
                if is_tcp { "tcp" } else { "udp" }
            );
            if model {
                passed += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(
        passed > 50 && refused > 50,
        "{passed} passed, {refused} refused: no test"
    );
}

pub(crate) fn generate<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

fn passes(policy: &CompiledPolicy, is_tcp: bool, ip: IpAddr, port: u16) -> bool {
    let hosts: BTreeSet<Address> = [
        IpAddr::from(HOST_V4),
        HOST_SECOND_V4.into(),
        HOST_V6.into(),
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
    ]
    .into_iter()
    .map(Address::from)
    .collect();
    let model = Model::new(policy, hosts);
    let flow = model.flow(if is_tcp { TCP } else { UDP }, ip.into(), port);
    let verdict = model.decide(&flow);
    // The fence has no resolver: port 53 goes nowhere.
    verdict.passes() && verdict != Verdict::Resolver
}

fn script(is_tcp: bool, ip: IpAddr, port: u16) -> String {
    let to = SocketAddr::new(ip, port);
    let family = if ip.is_ipv4() { "inet" } else { "inet6" };
    if is_tcp {
        format!("socket {family} stream; connect {to}")
    } else {
        format!("socket {family} dgram; sendto {to} 5")
    }
}
