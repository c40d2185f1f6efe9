//! Connected sockets of UDP that say something about a datagram's header and give no address, as clients
//! of QUIC do: the kernel asks the hook of `sendmsg` all the same. The same sockets are an attacker's.

use std::net::IpAddr;

use common::verdict::Reason;
use lab::binary::Scratch;

use super::fence::{HookFence, compiled};
use crate::rows;

const V4: &str = "93.184.216.34:443";
const MAPPED: &str = "[::ffff:93.184.216.34]:443";
const V6: &str = "[2606:2800:220:1::34]:443";

/// ICMP and `ICMPv6`: what the kernel says to replies that find no socket any more.
const OF_THE_KERNEL: [u8; 2] = [1, 58];

fn arrived(fence: &HookFence, at: &str) -> u64 {
    let at: IpAddr = at.parse().expect("an address");
    let count = fence
        .lab
        .count(|packet| packet.destination == at && !OF_THE_KERNEL.contains(&packet.protocol));
    count.expect("the recorder")
}

#[test]
fn a_connected_socket_says_what_it_likes_about_a_datagram() {
    let fence = HookFence::new(rows::POLICY);
    let (mut worker, mut bare) = (fence.prober(), fence.bare());
    for (family, to, control) in [
        ("inet", V4, "tos=2"),
        ("inet", V4, "ttl=9"),
        ("inet", V4, "ttl=9 tos=1"),
        ("inet", V4, "tos=2 segment=2"),
        ("inet6", MAPPED, "tos=2"),
        ("inet6", V6, "tclass=2"),
        ("inet6", V6, "hoplimit=9"),
        ("inet6", V6, "tclass=1 segment=2"),
    ] {
        let script = format!(
            "socket {family} dgram; connect {to}; sendmsg - 5 {control}; recv; send 5; recv; \
             sendmsg - 5 {control}; recv"
        );
        for (who, prober) in [("control", &mut bare), ("worker", &mut worker)] {
            let answer = prober.ask(&script).expect("the prober answers");
            assert!(
                answer.ok && answer.sent == 15,
                "{who}: {script}: {answer:?}"
            );
        }
    }
    // It is charged and told as one connection.
    assert!(fence.refusals().is_empty(), "{:?}", fence.refusals());
}

/// Each is done without a fence first, where a datagram comes to `seen`.
#[test]
fn a_control_message_without_an_address_opens_nothing() {
    let fence = HookFence::new(rows::POLICY);
    let (mut worker, mut bare) = (fence.prober(), fence.bare());
    let options = "0000010400000000";
    for (script, seen, errno) in [
        // Another host, by the address or by way of it.
        (
            format!("inet; connect {V4}; sendmsg 1.2.3.4:443 5 tos=2"),
            "1.2.3.4",
            "EPERM",
        ),
        (
            format!("inet; connect {V4}; sendmsg - 5 lsrr=1.2.3.4"),
            "1.2.3.4",
            "EPERM",
        ),
        (
            format!("inet; connect {V4}; sendmsg unspec4:1.2.3.4:443 5 tos=2"),
            "1.2.3.4",
            "EPERM",
        ),
        (
            format!("inet6; connect {MAPPED}; sendmsg [::ffff:1.2.3.4]:443 5 tos=2"),
            "1.2.3.4",
            "EPERM",
        ),
        (
            format!("inet6; connect {V6}; sendmsg [2a00:1450::8]:443 5 tclass=2"),
            "2a00:1450::8",
            "EPERM",
        ),
        (
            format!("inet6; connect {V6}; sendmsg - 5 hopopts={options}"),
            "2606:2800:220:1::34",
            "EPERM",
        ),
        (
            format!("inet6; connect {V6}; sendmsg - 5 dstopts={options}"),
            "2606:2800:220:1::34",
            "EPERM",
        ),
    ] {
        let script = format!("socket {}", script.replacen(';', " dgram;", 1));
        let before = arrived(&fence, seen);
        let answer = bare.ask(&script).expect("the prober answers");
        assert!(answer.ok, "control: {script}: {answer:?}");
        assert!(arrived(&fence, seen) > before, "control: {script}");
        let before = arrived(&fence, seen);
        let answer = worker.ask(&script).expect("the prober answers");
        assert_eq!(answer.errno(), errno, "{script}: {answer:?}");
        assert_eq!(arrived(&fence, seen), before, "{script}");
    }
    assert!(fence.awaits(Reason::SourceRouted));
}

#[test]
fn a_connect_that_was_refused_leaves_the_socket_where_it_was() {
    let fence = HookFence::new(rows::POLICY);
    let (mut worker, mut bare) = (fence.prober(), fence.bare());
    let script =
        format!("socket inet dgram; connect {V4}; try connect 1.2.3.4:443; sendmsg - 5 tos=2");
    let before = arrived(&fence, "1.2.3.4");
    assert!(bare.ask(&script).expect("the prober answers").ok, "control");
    assert!(arrived(&fence, "1.2.3.4") > before, "control");
    let before = ["1.2.3.4", "93.184.216.34"].map(|at| arrived(&fence, at));
    let answer = worker.ask(&script).expect("the prober answers");
    assert!(answer.ok && answer.refused == 1, "{answer:?}");
    let after = ["1.2.3.4", "93.184.216.34"].map(|at| arrived(&fence, at));
    assert_eq!(after, [before[0], before[1] + 1]);
}

/// No port, no peer, no peer any more.
#[test]
fn a_control_message_without_a_destination_goes_nowhere() {
    let fence = HookFence::new(rows::POLICY);
    let mut worker = fence.prober();
    for (script, errno) in [
        ("inet; sendmsg - 5 tos=2", "EDESTADDRREQ"),
        ("inet6; sendmsg - 5 tclass=2", "EDESTADDRREQ"),
        ("inet6; sendmsg unspec 5 tclass=2", "EDESTADDRREQ"),
        ("inet; sendmsg 0.0.0.0:0 5 tos=2", "EINVAL"),
        ("inet; connect {to}; sendmsg 0.0.0.0:0 5 tos=2", "EINVAL"),
        ("inet; connect {to}; sendmsg 127.0.0.1:0 5 tos=2", "EINVAL"),
        ("inet6; connect {to6}; sendmsg [::]:0 5 tclass=2", "EINVAL"),
        ("inet; connect {to}; sendmsg 0.0.0.0:7100 5 tos=2", "EPERM"),
        (
            "inet6; connect {to6}; sendmsg [::]:7100 5 tclass=2",
            "EPERM",
        ),
        (
            "inet; connect {to}; connect unspec; sendmsg - 5 tos=2",
            "EDESTADDRREQ",
        ),
        (
            "inet6; connect {to6}; connect unspec; sendmsg - 5 tclass=2",
            "EDESTADDRREQ",
        ),
    ] {
        let script = script.replace("{to}", V4).replace("{to6}", V6);
        let script = format!("socket {}", script.replacen(';', " dgram;", 1));
        let answer = worker.ask(&script).expect("the prober answers");
        assert_eq!(answer.errno(), errno, "{script}: {answer:?}");
    }
}

#[test]
fn a_race_of_connects_against_control_messages_leads_nowhere_else() {
    let fence = HookFence::new(rows::POLICY);
    let (mut worker, mut bare) = (fence.prober(), fence.bare());
    for (family, first, second, seen, control) in [
        ("inet", V4, "1.2.3.4:443", "1.2.3.4", "tos=2"),
        (
            "inet6",
            V6,
            "[2a00:1450::8]:443",
            "2a00:1450::8",
            "tclass=2",
        ),
        ("inet6", MAPPED, "[::ffff:1.2.3.4]:443", "1.2.3.4", "tos=2"),
        // To the resolver's place and past it: without a resolver nothing of port 53 leaves.
        ("inet", V4, "8.8.8.8:53", "8.8.8.8", "ttl=9"),
    ] {
        let script = format!("socket {family} dgram; race {first} {second} 400 {control}");
        let before = arrived(&fence, seen);
        bare.ask(&script).expect("the prober answers");
        assert!(arrived(&fence, seen) > before, "control: {script}");
        let before = arrived(&fence, seen);
        let answer = worker.ask(&script).expect("the prober answers");
        assert!(
            answer.calls > 100 && answer.sent > 0,
            "{script}: {answer:?}"
        );
        assert_eq!(arrived(&fence, seen), before, "{script}");
    }
}

/// The hook does not look at such a datagram: egress does.
#[test]
fn a_rule_that_goes_takes_connected_sockets_along() {
    let fence = HookFence::new(rows::POLICY);
    let mut worker = fence.prober();
    let scratch = Scratch::new().expect("a folder");
    let without = rows::POLICY.replace("93.184.216.34/32", "93.184.216.35/32");
    let open = format!("socket inet dgram; connect {V4}; sendmsg - 5 tos=2; recv; keep s");
    let answer = worker.ask(&open).expect("the prober answers");
    assert!(answer.ok, "{answer:?}");
    let before = arrived(&fence, "93.184.216.34");
    fence.swap(&compiled(&without, scratch.path()));
    let answer = worker.ask("use s; sendmsg - 5 tos=2");
    let answer = answer.expect("the prober answers");
    assert!(!answer.ok, "{answer:?}");
    assert_eq!(arrived(&fence, "93.184.216.34"), before);
    assert!(fence.awaits(Reason::NotAllowed));
}
