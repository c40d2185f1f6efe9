//! For whom the resolver takes a question, and to whom it replies.

use std::net::SocketAddr;

use common::verdict::Reason;

use super::{OWN, PORT, StandIn, ask, port};

/// The address is another's, the port is one's own: so is the other's.
#[test]
fn a_question_can_not_be_put_into_the_mouth_of_another_worker() {
    let stand_in = StandIn::new();
    let (mut liar, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    let (victim, mut honest) = stand_in.fence.neighbour();
    for (family, own, others, server, direct, control) in [
        (
            "inet",
            "127.0.0.5",
            "127.0.0.1",
            "8.8.8.8",
            "127.0.0.1",
            "pktinfo=127.0.0.1",
        ),
        (
            "inet6",
            "[2600:3c01::2]",
            "[::1]",
            "[2001:4860:4860::8888]",
            "[::1]",
            "pktinfo6=::1",
        ),
    ] {
        // Without a fence the datagram has the source that it asks for.
        let bound = port(
            &mut bare,
            &format!("socket {family} dgram; bind {own}:0; name; keep s"),
        );
        let script = format!("use s; sendmsg {direct}:{PORT} 5 {control}");
        assert!(ask(&mut bare, &script).ok, "control");
        let forged: SocketAddr = format!("{others}:{bound}").parse().expect("an address");
        assert_eq!(stand_in.came(), [(forged, 5)], "control");

        let honest_ask =
            format!("socket {family} dgram; connect {server}:53; send 7; name; keep q");
        let asked = port(&mut honest, &honest_ask);
        let from: SocketAddr = format!("{others}:{asked}").parse().expect("an address");
        assert_eq!(stand_in.came(), [(from, 7)]);
        assert_eq!(stand_in.asker(from), Some(victim));
        // The hooks give no port of one's choice, so the liar opens sockets until it has that one: here
        // it takes any, and the victim's address.
        let before = stand_in.counted(Reason::SourceForged);
        let script = format!(
            "socket {family} dgram; bind {own}:0; name; keep l; sendmsg {server}:53 5 {control}"
        );
        let answer = ask(&mut liar, &script);
        assert_eq!(answer.errno(), "EPERM", "{answer:?}");
        assert_eq!(stand_in.counted(Reason::SourceForged), before + 1);
        // Nor after it has asked in its own name, by the quick way.
        let script = format!("use l; connect {server}:53; send 5; sendmsg {server}:53 5 {control}");
        let answer = ask(&mut liar, &script);
        assert_eq!((answer.errno(), answer.sent), ("EPERM", 5), "{answer:?}");
        let came = stand_in.came();
        let expected: SocketAddr = format!("{own}:{}", came[0].0.port()).parse().expect("one");
        assert_eq!(came, [(expected, 5)]);
        assert_eq!(stand_in.asker(expected), Some(OWN));
        assert_eq!(stand_in.asker(from), Some(victim));
        // Nor without an address, which the hook of the call lets pass.
        let script = format!(
            "socket {family} dgram; bind {own}:0; connect {server}:53; send 5; sendmsg - 5 {control}"
        );
        let answer = ask(&mut liar, &script);
        assert_eq!((answer.errno(), answer.sent), ("EPERM", 5), "{answer:?}");
        assert_eq!(stand_in.counted(Reason::SourceForged), before + 3);
        assert_eq!(stand_in.came().len(), 1);
        // A socket that is bound to no address has its port on all, and may say which.
        let script = format!("socket {family} dgram; name; sendmsg {server}:53 5 {control}; recv");
        let answer = ask(&mut liar, &script);
        assert!(answer.ok, "{answer:?}");
        let came = stand_in.came();
        assert_eq!(stand_in.asker(came[0].0), Some(OWN));
    }
}

#[test]
fn the_resolver_is_made_to_reply_to_nobody_outside() {
    let stand_in = StandIn::new();
    let (mut worker, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    for (way, direct, server) in [
        (
            "socket inet6 dgram; opt ip.freebind int 1; sendmsg {to} 5 pktinfo6=2a00:1450::77",
            "[::1]",
            "[2001:4860:4860::8888]",
        ),
        (
            "socket inet dgram; opt ip.transparent int 1; bind 9.9.9.77:0; sendto {to} 5",
            "127.0.0.1",
            "8.8.8.8",
        ),
        (
            "socket inet dgram; opt ip.transparent int 1; sendmsg {to} 5 pktinfo=9.9.9.77",
            "127.0.0.1",
            "8.8.8.8",
        ),
    ] {
        let control = way.replace("{to}", &format!("{direct}:{PORT}"));
        assert!(ask(&mut bare, &control).ok, "control: {control}");
        let came = stand_in.came();
        assert!(
            !came[0].0.ip().is_loopback(),
            "control: {control}: {came:?}"
        );
        let before = stand_in.counted(Reason::SourceForged);
        let script = way.replace("{to}", &format!("{server}:53"));
        let answer = ask(&mut worker, &script);
        assert_eq!(answer.errno(), "EPERM", "{script}: {answer:?}");
        assert_eq!(
            stand_in.counted(Reason::SourceForged),
            before + 1,
            "{script}"
        );
        assert!(stand_in.came().is_empty(), "{script}");
    }
    let before = stand_in.counted(Reason::SourceForged);
    let script =
        "socket inet stream; opt ip.transparent int 1; bind 9.9.9.77:0; connect 8.8.8.8:53";
    let answer = ask(&mut worker, script);
    assert!(!answer.ok, "{answer:?}");
    assert!(stand_in.counted(Reason::SourceForged) > before);
    for protocol in ["raw udp", "raw raw", "raw icmp"] {
        for family in ["inet", "inet6"] {
            let script = format!("socket {family} {protocol}");
            assert!(ask(&mut bare, &script).ok, "control: {script}");
            assert_eq!(ask(&mut worker, &script).errno(), "EACCES", "{script}");
        }
    }
}
