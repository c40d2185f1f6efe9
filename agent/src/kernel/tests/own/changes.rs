//! What changes under way: policies, who holds a port, who holds a listener, sessions that end.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use common::{decide::Mode, verdict::Reason};

use super::{OWN, WAIT, another, dial, owing, with};
use crate::kernel::tests::lab::{Fence, Lab, POLICY, scaled, serve};

#[test]
fn without_the_key_nothing_of_it_is_open() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(""));
    let (session, mut worker) = fence.worker();
    let mut second = another(&fence, session);
    assert_eq!(worker.ask("serve 127.0.0.1:8080"), "EACCES");
    assert_eq!(worker.ask("udp-serve 127.0.0.1:8080"), "EACCES");
    let tcp = worker.ask("serve 127.0.0.1:0");
    let udp = worker.ask("udp-serve 127.0.0.1:0");
    assert_eq!(second.ask(&format!("tcp {tcp}")), "EPERM");
    assert_eq!(second.ask(&format!("udp {udp}")), "EPERM");
    assert!(dial(&tcp).is_err());
    // The same sockets, once the policy says so: the listener's own rule is asked at each packet.
    fence.push(&with(OWN));
    assert_eq!(second.ask(&format!("tcp-keep {tcp}")), "ok");
    assert_eq!(second.ask("stream-echo"), "ok");
    assert!(dial(&tcp).is_err());
    // And no more, once it says so no more: what is open ends.
    fence.push(&with(""));
    assert_ne!(second.ask("stream-echo"), "ok");
    assert_eq!(second.ask(&format!("tcp {tcp}")), "EPERM");
    assert_eq!(worker.ask("bind-tcp 127.0.0.1:8080"), "EACCES");
}

#[test]
fn an_unrelated_push_leaves_connections_alone_and_quotas_do_not_count_them() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut server) = fence.worker();
    let mut client = another(&fence, session);
    let at = server.ask("serve 127.0.0.1:0");
    assert_eq!(client.ask(&format!("tcp-keep {at}")), "ok");
    let rule = "[[egress.allow]]\ncidr = \"8.8.8.8/32\"\nports = [443]\n";
    let limits = "[egress.limits]\nconnections = 1\nbytes_out = \"1KiB\"\n";
    for rules in [format!("{OWN}{rule}"), format!("{OWN}{limits}")] {
        fence.push(&with(&rules));
        assert_eq!(client.ask("stream-echo"), "ok");
        assert_eq!(
            client.ask("stream-echo-much"),
            "ok",
            "nothing leaves the session"
        );
    }
    for _ in 0..3 {
        assert_eq!(client.ask(&format!("tcp-keep {at}")), "ok");
        assert_eq!(client.ask("stream-echo"), "ok");
    }
    assert_eq!(owing(&fence), 0);
    let usage = fence.attached.usage(session).unwrap().unwrap();
    assert_eq!((usage.connections, usage.bytes_out), (0, 0));
}

/// Between a connect and its first packet the listener goes and the host takes its port.
#[test]
fn a_port_that_changes_hands_under_way_is_not_reached() {
    let _lab = Lab::new();
    // The first packet waits for the first bytes, without a cookie.
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "5").unwrap();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut server) = fence.worker();
    let mut client = another(&fence, session);
    assert_eq!(server.ask("listen 127.0.0.1:8100"), "127.0.0.1:8100");
    assert_eq!(client.ask("dial-later 127.0.0.1:8100"), "ok");
    assert_eq!(server.ask("unlisten"), "ok");
    let host = TcpListener::bind("127.0.0.1:8100").unwrap();
    host.set_nonblocking(true).unwrap();
    client.say("stream-write 00112233");
    let end = Instant::now() + scaled(WAIT);
    while Instant::now() < end {
        assert!(host.accept().is_err(), "it was let through");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(fence.count(Reason::NotOwn) >= 1);
    drop(host);
    let mut client = another(&fence, session);
    // The control: the same with the session's own server.
    assert_eq!(server.ask("listen 127.0.0.1:8100"), "127.0.0.1:8100");
    assert_eq!(client.ask("dial-later 127.0.0.1:8100"), "ok");
    assert_eq!(server.ask("unlisten"), "ok");
    assert_eq!(server.ask("serve 127.0.0.1:8100"), "127.0.0.1:8100");
    assert_eq!(client.ask("stream-echo"), "ok");

    // A connected socket of UDP, whose server goes.
    assert_eq!(server.ask("udp-bind 127.0.0.1:8101"), "ok");
    assert_eq!(client.ask("udp-keep 127.0.0.1:8101"), "ok");
    assert_eq!(client.ask("udp-connect 127.0.0.1:8101"), "ok");
    assert_eq!(client.ask("udp-send"), "ok");
    assert_eq!(server.ask("udp-bind 127.0.0.1:8102"), "ok", "it lets go");
    let host = UdpSocket::bind("127.0.0.1:8101").unwrap();
    host.set_read_timeout(Some(scaled(WAIT))).unwrap();
    assert_eq!(client.ask("udp-send"), "EPERM");
    assert!(host.recv(&mut [0; 16]).is_err());
    // It was not destroyed for that.
    drop(host);
    assert_eq!(server.ask("udp-bind 127.0.0.1:8101"), "ok");
    assert_eq!(client.ask("udp-send"), "ok");
    assert!(server.ask("udp-receive").starts_with("4 from"));
}

#[test]
fn a_listener_that_is_inherited_stays_the_sessions() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut first) = fence.worker();
    let (_, mut stranger) = fence.worker();
    let mut client = another(&fence, session);
    first.ask("listen 127.0.0.1:8110");
    assert_eq!(first.ask("leave-listener"), "127.0.0.1:8110");
    let heir = first;
    drop(heir);
    assert_eq!(client.ask("tcp 127.0.0.1:8110"), "ok");
    assert_eq!(stranger.ask("tcp 127.0.0.1:8110"), "ECONNREFUSED");
    assert!(dial("127.0.0.1:8110").is_err());
}

#[test]
fn what_a_session_leaves_is_nobodys() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut gone) = fence.worker();
    let (_, mut next) = fence.worker();
    let mut client = another(&fence, session);
    let at = gone.ask("serve 127.0.0.1:8120");
    assert_eq!(client.ask(&format!("tcp-keep {at}")), "ok");
    let cgroup = fence.cgroup(session).id();
    fence.attached.closing(session, cgroup).unwrap();
    assert_eq!(client.ask("stream-echo"), "ok", "what has begun may end");
    assert_eq!(client.ask(&format!("tcp {at}")), "EPERM", "nothing begins");
    assert_eq!(next.ask(&format!("tcp {at}")), "ECONNREFUSED");
    assert!(dial(&at).is_err());
    drop((gone, client));
    assert_eq!(next.ask("serve 127.0.0.1:8120"), at, "its port is free");
    assert_eq!(next.ask(&format!("tcp {at}")), "ok");
}

#[test]
fn doors_to_the_host_stay_doors_and_observe_opens_nothing() {
    let _lab = Lab::new();
    let server = serve(TcpListener::bind("127.0.0.1:0").unwrap());
    let closed = serve(TcpListener::bind("127.0.0.1:0").unwrap());
    let door = format!("[[local.allow]]\ntcp = \"{server}\"\n");
    let mut fence = Fence::new(&with(&format!("mode = \"observe\"\n{OWN}{door}")));
    let (_, mut worker) = fence.worker();
    assert_eq!(fence_mode(&fence), Mode::Observe);
    assert_eq!(worker.ask(&format!("tcp-keep {server}")), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");
    assert_eq!(worker.ask(&format!("tcp {closed}")), "ECONNREFUSED");
    let own = worker.ask("serve 127.0.0.1:0");
    assert_eq!(worker.ask(&format!("tcp {own}")), "ok");
    assert!(dial(&own).is_err());
    let mut host = dial(&server.to_string()).unwrap();
    host.write_all(b"ping").unwrap();
    host.read_exact(&mut [0; 4]).expect("the control");
}

fn fence_mode(fence: &Fence) -> Mode {
    fence.kernel.inner.word(POLICY).mode()
}
