//! Packets without a socket of ours: test runs of the egress program. The socket of a test run is
//! in the root cgroup, which is made a session here.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use common::{
    decide::Mode,
    flow::{TCP, UDP},
    id::{CgroupId, SessionId},
};

use super::{
    lab::{Fence, Lab, POLICY, scaled},
    policies::{NO_LIMITS, door, open, policy},
};
use crate::kernel::cgroup;

const PASS: u32 = 1;
const DROP: u32 = 0;
const LOOPBACK: u32 = 1;
/// Any device but loopback: that of the lab's host end.
const VETH: u32 = 2;

/// A frame with an IPv4 header of these words more than five.
fn frame4(protocol: u8, to: [u8; 4], port: u16, option_words: u8, fragment: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[0x08, 0x00]);
    let total = 20 + u16::from(option_words) * 4 + 20;
    frame.extend_from_slice(&[0x45 + option_words, 0]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0, 1]);
    frame.extend_from_slice(&fragment.to_be_bytes());
    frame.extend_from_slice(&[64, protocol, 0, 0, 192, 168, 77, 1]);
    frame.extend_from_slice(&to);
    frame.resize(frame.len() + usize::from(option_words) * 4, 1);
    frame.extend_from_slice(&40_000_u16.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.resize(frame.len() + 16, 0);
    frame
}

fn frame6(next_header: u8, to: &str, port: u16) -> Vec<u8> {
    let to: std::net::Ipv6Addr = to.parse().unwrap();
    let from: std::net::Ipv6Addr = "2600:1f00::1".parse().unwrap();
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, next_header, 64]);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(&40_000_u16.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.resize(frame.len() + 16, 0);
    frame
}

fn fence() -> Fence {
    let rules = [
        open("93.184.216.0/24", TCP, 443, 1),
        open("93.184.216.34/32", UDP, 4000, 2),
        open("2606:2800::/32", TCP, 443, 3),
        open("64:ff9b::/96", TCP, 443, 5),
        open("2002::/16", TCP, 443, 6),
        door("127.0.0.1/32", TCP, 5432, 4),
    ];
    let fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let root = fs::metadata(cgroup::mount_point().unwrap()).unwrap();
    let _admitted = fence
        .attached
        .admit(SessionId(99), CgroupId(root.ino()), POLICY)
        .unwrap();
    fence
}

type Case = (&'static str, Vec<u8>, u32, u32);

#[rustfmt::skip] // One line a case.
fn cases() -> Vec<Case> {
    let (tcp, udp) = (6, 17);
    let allowed = [93, 184, 216, 34];
    vec![
        ("named", frame4(tcp, allowed, 443, 0, 0), VETH, PASS),
        ("named, do not fragment", frame4(tcp, allowed, 443, 0, 0x4000), VETH, PASS),
        ("udp", frame4(udp, allowed, 4000, 0, 0), VETH, PASS),
        ("another port", frame4(tcp, allowed, 80, 0, 0), VETH, DROP),
        ("another protocol", frame4(udp, allowed, 443, 0, 0), VETH, DROP),
        ("another address", frame4(tcp, [1, 1, 1, 1], 443, 0, 0), VETH, DROP),
        ("options", frame4(tcp, allowed, 443, 1, 0), VETH, DROP),
        ("more fragments", frame4(udp, allowed, 4000, 0, 0x2000), VETH, DROP),
        ("a later fragment", frame4(udp, allowed, 4000, 0, 0x00b9), VETH, DROP),
        ("icmp", frame4(1, allowed, 0, 0, 0), VETH, DROP),
        ("sctp", frame4(132, allowed, 443, 0, 0), VETH, DROP),
        ("udp-lite", frame4(136, allowed, 4000, 0, 0), VETH, DROP),
        ("dns", frame4(udp, allowed, 53, 0, 0), VETH, DROP),
        ("by loopback", frame4(tcp, allowed, 443, 0, 0), LOOPBACK, DROP),
        ("door", frame4(tcp, [127, 0, 0, 1], 5432, 0, 0), LOOPBACK, PASS),
        ("beside the door", frame4(tcp, [127, 0, 0, 1], 5433, 0, 0), LOOPBACK, DROP),
        ("metadata", frame4(tcp, [169, 254, 169, 254], 80, 0, 0), VETH, DROP),
        ("v6", frame6(6, "2606:2800::1", 443), VETH, PASS),
        ("v6, another port", frame6(6, "2606:2800::1", 80), VETH, DROP),
        ("v6 hop-by-hop", frame6(0, "2606:2800::1", 443), VETH, DROP),
        ("v6 routing", frame6(43, "2606:2800::1", 443), VETH, DROP),
        ("v6 fragment", frame6(44, "2606:2800::1", 443), VETH, DROP),
        ("v6 destination options", frame6(60, "2606:2800::1", 443), VETH, DROP),
        ("icmpv6", frame6(58, "2606:2800::1", 0), VETH, DROP),
        ("v4-mapped on the wire", frame6(6, "::ffff:93.184.216.34", 443), VETH, DROP),
        ("nat64, public", frame6(6, "64:ff9b::5db8:d822", 443), VETH, PASS),
        ("nat64, private", frame6(6, "64:ff9b::10.0.0.1", 443), VETH, DROP),
        ("nat64, metadata", frame6(6, "64:ff9b::169.254.169.254", 443), VETH, DROP),
        ("6to4 is special", frame6(6, "2002:5db8:d822::1", 443), VETH, DROP),
        ("unique local", frame6(6, "fd00:ec2::254", 443), VETH, DROP),
    ]
}

#[test]
fn every_shape_of_packet() {
    let _lab = Lab::new();
    let fence = fence();
    let run = |frame: &[u8], device| fence.kernel.test_egress(frame, device, 1).unwrap().retval;
    for (name, frame, device, expected) in cases() {
        assert_eq!(run(&frame, device), expected, "{name}");
    }
    assert_eq!(run(&[0; 14 + 20], VETH), DROP, "not IP");
}

#[test]
fn without_a_session_nothing_passes() {
    let _lab = Lab::new();
    let rules = [open("93.184.216.0/24", TCP, 443, 1)];
    let fence = Fence::new(&policy(Mode::Observe, NO_LIMITS, &rules));
    let frame = frame4(6, [93, 184, 216, 34], 443, 0, 0);
    let result = fence.kernel.test_egress(&frame, VETH, 1).unwrap();
    assert_eq!(result.retval, DROP);
}

/// Prints what the design gives a goal for: the packet of a verified flow.
#[test]
fn cost_of_a_verified_flow() {
    let _lab = Lab::new();
    let fence = fence();
    let frame = frame4(6, [93, 184, 216, 34], 443, 0, 0);
    let verified = fence.kernel.test_egress(&frame, VETH, 1_000_000).unwrap();
    assert_eq!(verified.retval, PASS);
    let odd = frame4(6, [93, 184, 216, 34], 443, 1, 0);
    let refused = fence.kernel.test_egress(&odd, VETH, 100_000).unwrap();
    println!(
        "egress: verified flow {} ns, refused packet {} ns",
        verified.duration_ns, refused.duration_ns
    );
    let took = Duration::from_nanos(verified.duration_ns.into());
    assert!(took < scaled(Duration::from_micros(1)), "{took:?}");
}
