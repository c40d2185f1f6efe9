//! The model and the egress program hold the same opinion, reason for reason, of random packets under
//! random policies. Unlike a socket, a test run sends any bytes: options, fragments, extension
//! headers, protocols that no worker gets a socket for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use agent::policy::{compiled::CompiledPolicy, model::Model};
use common::{
    event::Hook,
    flow::{Address, Flow, Place, Shape, TCP, UDP},
    id::{CgroupId, PolicyId, SessionId},
    verdict::{Outcome, Reason, Verdict},
};
use lab::net::HOST_DEVICE_INDEX;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use crate::{
    counts,
    decide::{ELSEWHERE, PORTS, PRIVATE, PUBLIC, address, generate, policies},
    hooks::fence::{HookFence, compiled},
};

const PASS: u32 = 1;
const LOOPBACK_INDEX: u32 = 1;
/// Bits of the fragment field that name a fragment: more to come, and the offset (RFC 791, 3.1).
const FRAGMENT: u16 = 0x3fff;
/// ICMP, TCP, UDP, `ICMPv6`, SCTP, UDP-Lite, and what follows an extension header (RFC 8200, 4).
const PROTOCOLS: &[u8] = &[
    6, 6, 6, 6, 17, 17, 17, 1, 58, 132, 136, 0, 43, 44, 51, 60, 255,
];
/// Packets of each kind of verdict without which the test would have shown little.
const OF_EACH_MIN: u32 = 20;

/// A packet as it is sent.
#[derive(Clone, Debug)]
struct Sent {
    to: IpAddr,
    /// IPv4-mapped addresses go out as IPv6, which no socket does.
    mapped_as_v6: bool,
    protocol: u8,
    port: u16,
    /// Words of IPv4 options.
    options: u8,
    fragment: u16,
    by_loopback: bool,
    /// Sends to what a rule names instead: chance seldom hits address, protocol and port together.
    at_a_rule: Option<(Index, Index)>,
}

fn packet() -> impl Strategy<Value = Sent> {
    let to = prop_oneof![5 => address(PUBLIC), 2 => address(PRIVATE), 3 => address(ELSEWHERE)];
    let port = prop_oneof![9 => proptest::sample::select(PORTS), 1 => any::<u16>()];
    let options = prop_oneof![9 => Just(0), 1 => 1..=10_u8];
    // Do not fragment, or nothing, is how sockets send.
    let fragment = prop_oneof![5 => Just(0), 4 => Just(0x4000), 1 => any::<u16>()];
    (
        (to, any::<bool>()),
        proptest::sample::select(PROTOCOLS),
        (port, options, fragment),
        proptest::bool::weighted(0.15),
        proptest::option::weighted(0.4, any::<(Index, Index)>()),
    )
        .prop_map(
            |((to, mapped_as_v6), protocol, (port, options, fragment), by_loopback, at_a_rule)| {
                Sent {
                    to,
                    mapped_as_v6,
                    protocol,
                    port,
                    options,
                    fragment,
                    by_loopback,
                    at_a_rule,
                }
            },
        )
}

impl Sent {
    fn aimed(mut self, policy: &CompiledPolicy) -> Self {
        let table = &policy.egress.table;
        let Some((entry, range)) = self.at_a_rule.filter(|_| !table.is_empty()) else {
            return self;
        };
        let entry = entry.get(table);
        let open = entry.set.ranges.iter().take(entry.set.count as usize);
        let range = range.get(&open.collect::<Vec<_>>()).to_owned();
        self.to = entry.prefix.network.into();
        self.protocol = range.protocol;
        self.port = range.high;
        self
    }

    /// The frame, with Ethernet header.
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 12];
        match (self.to.to_canonical(), self.mapped_as_v6, self.to) {
            (IpAddr::V4(to), false, _) | (IpAddr::V4(to), true, IpAddr::V4(_)) => {
                let payload = 20 + u16::from(self.options) * 4 + 20;
                frame.extend_from_slice(&[0x08, 0, 0x45 + self.options, 0]);
                frame.extend_from_slice(&payload.to_be_bytes());
                frame.extend_from_slice(&[0, 1]);
                frame.extend_from_slice(&self.fragment.to_be_bytes());
                frame.extend_from_slice(&[64, self.protocol, 0, 0, 192, 168, 77, 1]);
                frame.extend_from_slice(&to.octets());
                frame.resize(frame.len() + usize::from(self.options) * 4, 1);
            }
            (_, _, IpAddr::V6(to)) => {
                frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, self.protocol, 64]);
                frame.extend_from_slice(&[0x26, 0, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                frame.extend_from_slice(&to.octets());
            }
            (IpAddr::V6(_), _, IpAddr::V4(_)) => unreachable!("IPv4 is canonical"),
        }
        frame.extend_from_slice(&40_000_u16.to_be_bytes());
        frame.extend_from_slice(&self.port.to_be_bytes());
        frame.resize(frame.len() + 16, 0);
        frame
    }

    fn is_v6(&self) -> bool {
        match self.to {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => self.mapped_as_v6 || v6.to_ipv4_mapped().is_none(),
        }
    }

    /// What the design says that this packet is, read off the description and not off the bytes.
    fn flow(&self) -> Flow {
        let transport = u16::from(self.protocol) == TCP || u16::from(self.protocol) == UDP;
        let plain = if self.is_v6() {
            transport && self.to.to_canonical().is_ipv6()
        } else {
            self.options == 0 && self.fragment & FRAGMENT == 0
        };
        Flow {
            // Of an odd packet the socket's own protocol counts, and a test run's socket has none.
            protocol: if plain { self.protocol.into() } else { 0 },
            address: Address::from(self.to.to_canonical()),
            port: self.port,
            place: if self.by_loopback {
                Place::Host
            } else {
                Place::Remote
            },
            shape: if plain { Shape::Plain } else { Shape::Odd },
        }
    }
}

/// Decisions of the egress program so far, by outcome and reason.
fn told(fence: &HookFence) -> BTreeSet<(u8, u8, u64)> {
    let counters = fence.kernel.counters().expect("the counters");
    let mut sums = BTreeMap::<(u8, u8), u64>::new();
    for (key, count) in counters {
        if key.hook == Hook::Egress as u8 {
            *sums.entry((key.outcome, key.reason)).or_default() += count;
        }
    }
    sums.into_iter()
        .map(|((outcome, reason), count)| (outcome, reason, count))
        .collect()
}

fn outcome_and_reason(verdict: Verdict) -> (u8, u8) {
    (verdict.outcome() as u8, verdict.reason() as u8)
}

#[test]
fn egress_and_model_agree_on_random_packets() {
    let fence = HookFence::new(&generate(&mut TestRunner::deterministic(), &policies()));
    // The socket of a test run is in the root cgroup.
    let root = fs::metadata(lab::cgroup::mount().expect("cgroup v2")).expect("the root cgroup");
    let _admitted = fence
        .attached
        .admit(SessionId(2), CgroupId(root.ino()), PolicyId(1))
        .expect("the root cgroup is admitted");
    let mut runner = TestRunner::new(Config::default());
    let mut seen = BTreeMap::<(u8, u8), u32>::new();
    let mut before = told(&fence);
    for _ in 0..counts::packet_policies() {
        let text = generate(&mut runner, &policies());
        let policy = compiled(&text, Path::new("/"));
        fence.swap(&policy);
        // Not a host's address list: in egress the device alone says what is local.
        let model = Model::new(&policy, BTreeSet::new());
        for _ in 0..counts::packets() {
            let sent = generate(&mut runner, &packet()).aimed(&policy);
            let mut expected = model.decide(&sent.flow());
            if expected == Verdict::Resolver {
                // The fence has no resolver, and on the wire port 53 is nobody's.
                expected = Verdict::Deny(Reason::DnsNotRedirected);
            }
            let device = if sent.by_loopback {
                LOOPBACK_INDEX
            } else {
                HOST_DEVICE_INDEX
            };
            let run = fence.lab.host().enter(|| {
                let frame = sent.frame();
                fence.kernel.test_egress(&frame, device, 1)
            });
            let run = run.expect("the namespace").expect("a test run");
            let now = told(&fence);
            let decided: Vec<_> = now.difference(&before).map(|(o, r, _)| (*o, *r)).collect();
            before = now;
            let wanted = outcome_and_reason(expected);
            assert_eq!(
                (run.retval == PASS, decided.as_slice()),
                (expected.passes(), [wanted].as_slice()),
                "{sent:?}\n{expected:?}\n{text}"
            );
            *seen.entry(wanted).or_default() += 1;
        }
    }
    for kind in [
        (Outcome::Allow, Reason::Rule),
        (Outcome::Observe, Reason::NotAllowed),
        (Outcome::Deny, Reason::NotAllowed),
        (Outcome::Deny, Reason::Protocol),
        (Outcome::Deny, Reason::DnsNotRedirected),
        (Outcome::Deny, Reason::LocalAddress),
        (Outcome::Deny, Reason::PrivateAddress),
    ] {
        let count = seen.get(&(kind.0 as u8, kind.1 as u8)).copied();
        assert!(count > Some(OF_EACH_MIN), "{kind:?}: {count:?}");
    }
}
