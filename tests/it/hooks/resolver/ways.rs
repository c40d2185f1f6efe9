//! Where a socket leads that was sent to the resolver once.

use common::verdict::Reason;

use super::{OWN, PORT, StandIn, ask, headers::RECORD};

#[test]
fn a_socket_that_has_asked_leads_nowhere_else() {
    let stand_in = StandIn::new();
    let (mut worker, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    let other = [1, 2, 3, 4].into();
    let seen = || stand_in.fence.lab.arrived_at(other).expect("the recorder");
    for (kind, way) in [
        ("inet dgram", "connect 1.2.3.4:443; send 5"),
        ("inet dgram", "connect unspec; connect 1.2.3.4:443; send 5"),
        ("inet dgram", "sendto 1.2.3.4:443 5"),
        ("inet dgram", "connect unspec; sendto 1.2.3.4:443 5"),
        ("inet6 dgram", "connect [::ffff:1.2.3.4]:443; send 5"),
        ("inet stream", "connect unspec; connect 1.2.3.4:443; send 5"),
    ] {
        let server = if kind == "inet6 dgram" {
            "[::ffff:8.8.8.8]"
        } else {
            "8.8.8.8"
        };
        let script = format!("socket {kind}; connect {server}:53; send 5; {way}");
        let control = format!("socket {kind}; connect {server}:443; try send 5; {way}");
        let before = seen();
        assert!(ask(&mut bare, &control).ok, "control: {control}");
        assert!(seen() > before, "control: {control}");
        let before = seen();
        let answer = ask(&mut worker, &script);
        assert_eq!(
            (answer.errno(), answer.sent),
            ("EPERM", 5),
            "{script}: {answer:?}"
        );
        assert_eq!(seen(), before, "{script}");
    }
    // Nor to the resolver by its own address, or to its neighbour on that host.
    for way in [
        "connect 127.0.0.1:1023; send 5",
        "sendto 127.0.0.1:1023 5",
        "sendto 127.0.0.1:7100 5",
    ] {
        let script = format!("socket inet dgram; sendto 8.8.8.8:53 5; {way}");
        let answer = ask(&mut worker, &script);
        assert_eq!(
            (answer.errno(), answer.sent),
            ("EPERM", 5),
            "{script}: {answer:?}"
        );
    }
    let before = seen();
    let answer = ask(
        &mut worker,
        "socket inet dgram; race 8.8.8.8:53 1.2.3.4:443 400",
    );
    assert!(answer.calls > 100 && answer.sent > 0, "{answer:?}");
    assert_eq!(seen(), before, "a race");
}

#[test]
fn a_connection_to_the_resolver_is_looked_at_packet_by_packet() {
    let stand_in = StandIn::new();
    let (mut worker, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    let control = format!(
        "socket inet stream; connect 127.0.0.1:{PORT}; send 5; recv; \
         opt ip.options hex {RECORD}; send 7; recv"
    );
    assert!(ask(&mut bare, &control).ok, "control");
    assert_eq!(stand_in.read(), 12, "control");
    let open = "socket inet stream; connect 8.8.8.8:53; send 5; recv; send 6; recv; keep t";
    // Options that come while it is open.
    assert!(ask(&mut worker, open).ok);
    assert_eq!(stand_in.read(), 11);
    let script = format!("use t; opt ip.options hex {RECORD}; send 7; recv");
    let answer = ask(&mut worker, &script);
    assert!(!answer.ok, "{answer:?}");
    assert_eq!(stand_in.read(), 0);
    assert!(stand_in.fence.awaits(Reason::SourceRouted));
    // The resolver goes: what is connected to it is no way to whoever listens there next.
    assert!(ask(&mut worker, open).ok);
    assert_eq!(stand_in.read(), 11);
    stand_in
        .fence
        .kernel
        .clear_resolver()
        .expect("it is cleared");
    let answer = ask(&mut worker, "use t; send 7; recv");
    assert!(!answer.ok, "{answer:?}");
    assert_eq!(stand_in.read(), 0);
    assert!(stand_in.fence.awaits(Reason::LocalAddress));
}

/// With a control message about its header a datagram of a connected socket is asked for again, and has
/// no address.
#[test]
fn a_question_says_what_it_likes_about_its_header() {
    let stand_in = StandIn::new();
    let mut worker = stand_in.fence.prober();
    for (kind, server, control) in [
        ("inet", "8.8.8.8:53", "tos=2"),
        ("inet", "8.8.8.8:53", "ttl=9"),
        ("inet6", "[2001:4860:4860::8888]:53", "tclass=2"),
        ("inet6", "[2001:4860:4860::8888]:53", "hoplimit=9"),
        ("inet6", "[::ffff:8.8.8.8]:53", "tos=2"),
    ] {
        let script = format!(
            "socket {kind} dgram; connect {server}; sendmsg - 5 {control}; recv; \
             sendmsg - 6 {control}; recv"
        );
        let answer = ask(&mut worker, &script);
        assert!(answer.ok && answer.received == 11, "{script}: {answer:?}");
        let came = stand_in.came();
        let bytes: Vec<_> = came.iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!(bytes, [5, 6], "{script}");
        assert_eq!(stand_in.asker(came[0].0), Some(OWN), "{script}");
    }
}
