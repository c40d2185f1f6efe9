//! Loopback among the processes of one session: they reach each other, and nobody reaches in or out.
//!
//! What is refused is tried with a server that is there and answers others.

mod changes;

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{
    id::SessionId,
    layout::{STATE_PEER_OWED, SocketState},
    pod::Pod as _,
    verdict::Reason,
};

use super::{
    lab::{Fence, Lab, scaled, serve},
    worker::Worker,
};
use crate::policy::{compile, compiled::CompiledPolicy};

const OWN: &str = "[[local.allow]]\nloopback = \"own\"\n";
const WAIT: Duration = Duration::from_millis(400);

fn with(rules: &str) -> Arc<CompiledPolicy> {
    let text = format!("version = 1\ntool = \"t\"\n{rules}");
    Arc::new(compile("t.toml", &text).unwrap())
}

/// A second process of a session.
fn another(fence: &Fence, session: SessionId) -> Worker {
    Worker::start(fence.cgroup(session).path())
}

fn dial(address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, scaled(WAIT))
}

/// A server of UDP of this host that echoes.
fn serve_datagrams(at: &str) -> SocketAddr {
    let socket = UdpSocket::bind(at).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..bytes], from).unwrap();
        }
    });
    address
}

fn asks(to: &str) -> std::io::Result<usize> {
    let to: SocketAddr = to.parse().unwrap();
    let any = if to.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(scaled(WAIT)))?;
    socket.send_to(b"knock", to)?;
    socket.recv(&mut [0; 16])
}

#[test]
fn processes_of_a_session_reach_each_other_over_tcp() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut server) = fence.worker();
    let mut client = another(&fence, session);
    for (bound, dialled) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("127.0.0.1:0", "[::ffff:127.0.0.1]"),
        ("127.9.9.9:0", "127.9.9.9"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.77"),
        ("[::1]:0", "[::1]"),
        ("[::]:0", "[::1]"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "[::ffff:127.0.0.1]"),
        ("127.0.0.1:8081", "127.0.0.1"),
        ("0.0.0.0:8082", "127.0.0.1"),
        ("[::]:8083", "[::1]"),
        ("[::1]:8084", "[::1]"),
    ] {
        let at: SocketAddr = server.ask(&format!("serve {bound}")).parse().expect(bound);
        let to = format!("{dialled}:{}", at.port());
        for worker in [&mut client, &mut server] {
            assert_eq!(worker.ask(&format!("tcp-keep {to}")), "ok", "{bound} {to}");
            assert_eq!(worker.ask("stream-echo"), "ok", "{bound} {to}");
            assert_eq!(worker.ask("stream-echo-much"), "ok", "{bound} {to}");
        }
    }
    for refusal in [
        Reason::NotOwn,
        Reason::Inbound,
        Reason::LocalAddress,
        Reason::SourceRouted,
        Reason::Protocol,
    ] {
        assert_eq!(fence.count(refusal), 0, "{refusal:?}");
    }
    assert_eq!(owing(&fence), 0, "each connection is asked for no more");
    // Nobody listens: what a program that waits for its server hears.
    assert_eq!(client.ask("tcp 127.0.0.1:9"), "ECONNREFUSED");
    assert_eq!(client.ask("tcp [::1]:9"), "ECONNREFUSED");
    // What is not loopback is what it was.
    for elsewhere in ["192.168.77.1:8082", "0.0.0.0:8082", "[2600:1f00::1]:8083"] {
        assert_eq!(client.ask(&format!("tcp {elsewhere}")), "EPERM");
    }
}

/// Connections of sessions whose other end is still asked for.
fn owing(fence: &Fence) -> usize {
    let inner = &fence.kernel.inner;
    let mut diag = crate::sys::sock_diag::Diag::open().unwrap();
    let sockets = crate::kernel::flows::owned_sockets(&mut diag, inner).unwrap();
    let states = sockets.iter().filter_map(|owned| {
        let connected = owned.socket.is_connected();
        let state = owned.socket.storage.as_deref().and_then(SocketState::read);
        state.filter(|_| connected)
    });
    let states: Vec<SocketState> = states.collect();
    assert!(!states.is_empty());
    states
        .iter()
        .filter(|state| state.flags & STATE_PEER_OWED != 0)
        .count()
}

#[test]
fn processes_of_a_session_reach_each_other_over_udp() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut server) = fence.worker();
    let mut client = another(&fence, session);
    for (bound, dialled) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:8071", "127.0.0.1"),
        ("[::1]:0", "[::1]"),
        ("[::]:0", "[::1]"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "[::ffff:127.0.0.1]"),
    ] {
        let at: SocketAddr = server.ask(&format!("udp-serve {bound}")).parse().unwrap();
        let to = format!("{dialled}:{}", at.port());
        assert_eq!(client.ask(&format!("udp-keep {to}")), "ok", "{bound} {to}");
        assert_eq!(client.ask(&format!("udp-to {to}")), "ok", "{bound} {to}");
        assert!(
            client.ask("udp-receive").starts_with("4 from"),
            "{bound} {to}"
        );
        assert_eq!(client.ask(&format!("udp-connect {to}")), "ok");
        assert_eq!(client.ask("udp-send"), "ok");
        assert!(
            client.ask("udp-receive").starts_with("4 from"),
            "{bound} {to}"
        );
    }
    // Both are connected to each other: each takes nothing from anybody else.
    assert_eq!(client.ask("udp-bind 127.0.0.1:7001"), "ok");
    assert_eq!(server.ask("udp-bind 127.0.0.1:7002"), "ok");
    assert_eq!(client.ask("udp-connect 127.0.0.1:7002"), "ok");
    assert_eq!(server.ask("udp-connect 127.0.0.1:7001"), "ok");
    assert_eq!(server.ask("udp-send"), "ok");
    assert_eq!(client.ask("udp-receive"), "4 from 127.0.0.1:7002");
    assert_eq!(client.ask("udp-send"), "ok");
    assert_eq!(server.ask("udp-receive"), "4 from 127.0.0.1:7001");
    // Broadcasts, and what might be some, reach more than one socket.
    for to in ["127.255.255.255:7001", "127.0.0.2:7001"] {
        assert_ne!(client.ask(&format!("udp {to}")), "ok", "{to}");
    }
}

#[test]
fn the_host_stays_out_of_reach_and_does_not_reach_in() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (_, mut worker) = fence.worker();
    let loopback = serve(TcpListener::bind("127.0.0.1:0").unwrap());
    let any = serve(TcpListener::bind("0.0.0.0:0").unwrap());
    let both = serve(TcpListener::bind("[::]:0").unwrap());
    for to in [
        loopback.to_string(),
        format!("[::ffff:127.0.0.1]:{}", loopback.port()),
        format!("127.0.0.1:{}", any.port()),
        format!("127.5.5.5:{}", any.port()),
        format!("[::1]:{}", both.port()),
        format!("127.0.0.1:{}", both.port()),
    ] {
        dial(&to).expect("the control");
        assert_eq!(worker.ask(&format!("tcp {to}")), "ECONNREFUSED", "{to}");
        let open = format!("fast-open {to} 00");
        assert_eq!(worker.ask(&open), "ECONNREFUSED", "{to}");
    }
    let udp = serve_datagrams("127.0.0.1:0").to_string();
    let udp6 = serve_datagrams("[::1]:0").to_string();
    for to in [&udp, &udp6] {
        assert_eq!(asks(to).unwrap(), 5, "the control");
        assert_eq!(worker.ask(&format!("udp {to}")), "ECONNREFUSED");
        assert_eq!(worker.ask(&format!("udp-keep {to}")), "ok");
        assert_eq!(worker.ask(&format!("udp-connect {to}")), "ECONNREFUSED");
    }
    assert!(fence.count(Reason::NotOwn) >= 16);

    let before = fence.count(Reason::Inbound);
    for at in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "127.0.0.1:8090"] {
        let at: SocketAddr = worker.ask(&format!("serve {at}")).parse().unwrap();
        for to in ["127.0.0.1", "[::1]", "192.168.77.1"] {
            let to = format!("{to}:{}", at.port());
            assert!(dial(&to).is_err(), "{to}");
        }
        let own = format!("tcp-keep 127.0.0.1:{}", at.port());
        assert_eq!(worker.ask(&own), "ok", "the control");
        assert_eq!(worker.ask("stream-echo"), "ok");
    }
    let at = worker.ask("udp-serve 127.0.0.1:0");
    assert!(asks(&at).is_err());
    assert_eq!(worker.ask("udp-heard"), "0");
    assert!(fence.count(Reason::Inbound) > before);
}

#[test]
fn sessions_do_not_reach_each_other() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (_, mut one) = fence.worker();
    let (_, mut other) = fence.worker();
    for (at, to) in [
        ("127.0.0.1", "127.0.0.1"),
        ("[::]", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),
    ] {
        let tcp: SocketAddr = one.ask(&format!("serve {at}:0")).parse().unwrap();
        let udp: SocketAddr = one.ask(&format!("udp-serve {at}:0")).parse().unwrap();
        let tcp = format!("tcp {to}:{}", tcp.port());
        let udp = format!("udp {to}:{}", udp.port());
        assert_eq!(one.ask(&tcp), "ok", "the control");
        assert_eq!(other.ask(&tcp), "ECONNREFUSED");
        let (_, socket) = udp.split_once(' ').unwrap();
        assert_eq!(one.ask(&format!("udp-keep {socket}")), "ok");
        assert_eq!(one.ask(&format!("udp-to {socket}")), "ok");
        assert!(one.ask("udp-receive").starts_with("4 from"), "the control");
        assert_eq!(other.ask(&udp), "ECONNREFUSED");
    }
    assert_eq!(one.ask("udp-heard"), "12", "the controls'");
    assert_eq!(fence.count(Reason::Inbound), 0, "nothing was sent");
}

#[test]
fn a_port_is_shared_with_no_stranger() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (session, mut worker) = fence.worker();
    let (_, mut stranger) = fence.worker();
    let mut host = super::worker::Kept::default();
    for (theirs, ours) in [
        ("127.0.0.1:6001", "127.0.0.1:6001"),
        ("0.0.0.0:6002", "127.0.0.1:6002"),
        ("0.0.0.0:6003", "0.0.0.0:6003"),
        ("[::]:6004", "127.0.0.1:6004"),
        ("[::1]:6005", "[::]:6005"),
        ("0.0.0.0:6006", "127.255.255.255:6006"),
    ] {
        assert_eq!(host.ask(&format!("udp-share {theirs}")), "ok");
        let asked = worker.ask(&format!("udp-share {ours}"));
        let expected = if ours.starts_with("127.255") {
            "EACCES"
        } else {
            "EADDRINUSE"
        };
        assert_eq!(asked, expected, "{theirs} {ours}");
    }
    // Within a session it is the programs' own affair.
    let mut second = another(&fence, session);
    assert_eq!(worker.ask("udp-share 127.0.0.1:6010"), "ok");
    assert_eq!(second.ask("udp-share 127.0.0.1:6010"), "ok");
    assert_eq!(stranger.ask("udp-share 127.0.0.1:6010"), "EADDRINUSE");

    // The host comes later and shares: what it gets is its own, and the worker's stays the worker's.
    assert_eq!(host.ask("udp-share 127.0.0.1:6010"), "ok", "the control");
    assert!(asks_once("127.0.0.1:6010"));
    assert_eq!(host.ask("udp-receive").split(' ').next(), Some("5"));
    assert_eq!(worker.ask("udp-receive"), "EAGAIN");
    assert_eq!(second.ask("udp-receive"), "EAGAIN");
    assert_eq!(stranger.ask("udp 127.0.0.1:6010"), "ECONNREFUSED");
    assert_eq!(second.ask("udp 127.0.0.1:6010"), "ECONNREFUSED");
}

fn asks_once(to: &str) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"knock", to).is_ok()
}

#[test]
fn ports_below_1024_and_other_addresses_stay_shut() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&with(OWN));
    let (_, mut worker) = fence.worker();
    for verb in ["bind-tcp", "bind-udp"] {
        for shut in [
            "127.0.0.1:53",
            "127.0.0.1:1023",
            "0.0.0.0:80",
            "[::1]:443",
            "192.168.77.1:8080",
            "[2600:1f00::1]:8080",
        ] {
            assert_eq!(
                worker.ask(&format!("{verb} {shut}")),
                "EACCES",
                "{verb} {shut}"
            );
        }
        for open in ["127.0.0.1:1024", "0.0.0.0:8080", "[::]:8080", "[::1]:65535"] {
            assert_eq!(worker.ask(&format!("{verb} {open}")), "ok", "{verb} {open}");
        }
    }
    assert_eq!(worker.ask("bind-tcp 127.8.8.8:8080"), "ok");
    let taken = serve(TcpListener::bind("127.0.0.1:0").unwrap());
    assert_eq!(worker.ask(&format!("bind-tcp {taken}")), "EADDRINUSE");
    let any = format!("bind-tcp 0.0.0.0:{}", taken.port());
    assert_eq!(worker.ask(&any), "EADDRINUSE");
}
