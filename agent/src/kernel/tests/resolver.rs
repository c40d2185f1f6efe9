//! Port 53 of a worker goes to the resolver, which knows whose query it is.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    num::NonZeroU32,
    thread,
    time::{Duration, Instant},
};

use common::{
    decide::Mode,
    event::Hook,
    flow::{TCP, UDP},
    limits::CLIENTS_PER_SECOND,
    verdict::Reason,
};

use super::{
    lab::{Fence, Lab},
    policies::{NO_LIMITS, policy},
    worker::Kept,
};
use crate::kernel::{
    Error, RESOLVER_PORT_END,
    clients::{CLIENT_LIFE, Pace},
};

pub(super) const PORT: u16 = 1023;
/// More than any test here asks.
pub(super) const PACE: Pace = Pace {
    per_second: NonZeroU32::MAX,
    burst: NonZeroU32::MAX,
};

/// A stand-in for the resolver: echoes, and says who asked.
pub(super) struct Resolver {
    /// Its endpoints, on 127.0.0.1 and `::1`.
    endpoints: Vec<UdpSocket>,
    asked: std::sync::mpsc::Receiver<SocketAddr>,
    accepted: std::sync::mpsc::Receiver<SocketAddr>,
}

impl Resolver {
    fn new() -> Self {
        let (say, asked) = std::sync::mpsc::channel();
        let (accept, accepted) = std::sync::mpsc::channel();
        let mut endpoints = Vec::new();
        for host in ["127.0.0.1", "[::1]"] {
            let address = format!("{host}:{PORT}");
            let socket = UdpSocket::bind(&address).unwrap();
            endpoints.push(socket.try_clone().unwrap());
            let say = say.clone();
            thread::spawn(move || {
                let mut buffer = [0; 512];
                while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
                    let _test_is_over = say.send(from);
                    let _refused = socket.send_to(&buffer[..bytes], from);
                }
            });
            let listener = TcpListener::bind(&address).unwrap();
            let accept = accept.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _test_is_over = accept.send(stream.peer_addr().unwrap());
                    thread::spawn(move || std::io::copy(&mut (&stream), &mut (&stream)));
                }
            });
        }
        Self {
            endpoints,
            asked,
            accepted,
        }
    }

    pub(super) fn next(&self) -> SocketAddr {
        self.asked.recv_timeout(Duration::from_secs(2)).unwrap()
    }

    /// Whether nobody has asked, nor does within a moment.
    pub(super) fn is_left_alone(&self) -> bool {
        self.asked.recv_timeout(Duration::from_millis(50)).is_err()
    }

    /// Forgets who has asked.
    pub(super) fn forget(&self) {
        while !self.is_left_alone() {}
    }

    fn next_tcp(&self) -> SocketAddr {
        self.accepted.recv_timeout(Duration::from_secs(2)).unwrap()
    }
}

pub(super) fn fence() -> (Lab, Resolver, Fence) {
    let lab = Lab::new();
    let resolver = Resolver::new();
    let fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    fence.kernel.set_resolver(PORT, PACE).unwrap();
    (lab, resolver, fence)
}

const SERVERS: [&str; 6] = [
    "8.8.8.8:53",
    "10.1.1.1:53",
    "127.0.0.53:53",
    "[2001:4860:4860::8888]:53",
    "[fd00:ec2::254]:53",
    "[::1]:53",
];

#[test]
fn every_query_comes_to_the_resolver_and_is_answered_by_whom_it_asked() {
    let (_lab, resolver, mut fence) = fence();
    let (session, mut worker) = fence.worker();
    let clients = fence.kernel.clients();
    for server in SERVERS {
        assert_eq!(worker.ask(&format!("udp-keep {server}")), "ok");
        assert_eq!(worker.ask(&format!("udp-to {server}")), "ok", "{server}");
        let from = resolver.next();
        assert_eq!(clients.find(from, UDP).unwrap(), Some(session), "{server}");
        assert_eq!(clients.find(from, TCP).unwrap(), None);
        assert_eq!(worker.ask("udp-receive"), format!("4 from {server}"));

        assert_eq!(worker.ask(&format!("udp-keep {server}")), "ok");
        assert_eq!(worker.ask(&format!("udp-connect {server}")), "ok");
        assert_eq!(worker.ask("udp-peer"), server);
        assert_eq!(worker.ask("udp-send"), "ok");
        let from = resolver.next();
        assert_eq!(clients.find(from, UDP).unwrap(), Some(session), "{server}");
        assert_eq!(worker.ask("udp-receive"), format!("4 from {server}"));

        assert_eq!(worker.ask(&format!("tcp-keep {server}")), "ok", "{server}");
        let from = resolver.next_tcp();
        assert_eq!(clients.find(from, TCP).unwrap(), Some(session), "{server}");
        assert_eq!(worker.ask("stream-peer"), server);
        assert_eq!(worker.ask("stream-echo"), "ok");
    }
}

#[test]
fn mapped_bound_and_v6_only_sockets_are_answered_too() {
    let (_lab, resolver, mut fence) = fence();
    let (session, mut worker) = fence.worker();
    let clients = fence.kernel.clients();
    let mut query = |open: &str, server: &str| {
        assert_eq!(worker.ask(open), "ok", "{open}");
        assert_eq!(worker.ask(&format!("udp-to {server}")), "ok", "{open}");
        let found = clients.find(resolver.next(), UDP).unwrap();
        assert_eq!(found, Some(session), "{open}");
        assert_eq!(worker.ask("udp-receive"), format!("4 from {server}"));
    };
    query("udp-keep [::]:0", "[::ffff:8.8.8.8]:53");
    query("udp-bind 192.168.77.1:0", "8.8.8.8:53");
    query("udp-bind [2600:1f00::1]:0", "[2001:4860:4860::8888]:53");
    query("udp-bind-v6only", "[2001:4860:4860::8888]:53");

    assert_eq!(worker.ask("udp-keep [::]:0"), "ok");
    assert_eq!(worker.ask("udp-connect [::ffff:8.8.8.8]:53"), "ok");
    assert_eq!(worker.ask("udp-peer"), "[::ffff:8.8.8.8]:53");
    assert_eq!(worker.ask("udp-send"), "ok");
    assert_eq!(clients.find(resolver.next(), UDP).unwrap(), Some(session));
    assert_eq!(worker.ask("udp-receive"), "4 from [::ffff:8.8.8.8]:53");
    assert_eq!(worker.ask("tcp-keep [::ffff:8.8.8.8]:53"), "ok");
    let from = resolver.next_tcp();
    assert_eq!(clients.find(from, TCP).unwrap(), Some(session));
    assert_eq!(worker.ask("stream-peer"), "[::ffff:8.8.8.8]:53");
}

#[test]
fn the_resolver_tells_workers_apart_and_strangers_from_workers() {
    let (_lab, resolver, mut fence) = fence();
    let clients = fence.kernel.clients();
    let (first, mut one) = fence.worker();
    let (second, mut two) = fence.worker();
    for _ in 0..20 {
        for (session, worker) in [(first, &mut one), (second, &mut two)] {
            assert_eq!(worker.ask("udp 8.8.8.8:53"), "ok");
            assert_eq!(clients.find(resolver.next(), UDP).unwrap(), Some(session));
            assert_eq!(worker.ask("tcp-keep 8.8.8.8:53"), "ok");
            let from = resolver.next_tcp();
            assert_eq!(clients.find(from, TCP).unwrap(), Some(session));
        }
    }
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"ping", ("127.0.0.1", PORT)).unwrap();
    assert_eq!(clients.find(resolver.next(), UDP).unwrap(), None);
}

#[test]
fn the_resolver_is_reached_by_port_53_only_and_by_nobody_else_answered() {
    let (_lab, resolver, mut fence) = fence();
    let (_, mut worker) = fence.worker();
    let direct = format!("127.0.0.1:{PORT}");
    let direct6 = format!("[::1]:{PORT}");
    for address in [&direct, &direct6] {
        assert_eq!(worker.ask(&format!("tcp {address}")), "EPERM");
        assert_eq!(worker.ask(&format!("udp {address}")), "EPERM");
    }
    // Not even by a socket that was sent there before.
    assert_eq!(worker.ask("udp-keep 0.0.0.0:0"), "ok");
    assert_eq!(worker.ask("udp-to 8.8.8.8:53"), "ok");
    let from = resolver.next();
    assert_eq!(worker.ask("udp-receive"), "4 from 8.8.8.8:53");
    assert_eq!(worker.ask(&format!("udp-to {direct}")), "EPERM");

    // Another socket of this host does not get through to the one that asked.
    let liar = UdpSocket::bind("127.0.0.1:0").unwrap();
    liar.send_to(b"a lie", from).unwrap();
    assert_eq!(worker.ask("udp-receive"), "EAGAIN");
    assert_eq!(fence.count(Reason::Inbound), 1);
    assert_eq!(worker.ask("udp-to 8.8.8.8:53"), "ok");
    assert_eq!(worker.ask("udp-receive"), "4 from 8.8.8.8:53");
}

/// A worker that got a datagram without having asked could be fed by whoever makes the resolver send
/// one.
#[test]
fn who_never_asked_gets_nothing_from_the_resolver() {
    let (_lab, resolver, mut fence) = fence();
    let (_, mut worker) = fence.worker();
    let mut refused = 0;
    for (endpoint, own, server) in [
        (0, "127.0.0.1:0", "8.8.8.8:53"),
        (1, "[::1]:0", "[2001:4860:4860::8888]:53"),
    ] {
        let endpoint = &resolver.endpoints[endpoint];
        let bind = format!("udp-bind {own}");
        let mut control = Kept::default();
        let port = |answer: String| answer.parse::<u16>().unwrap();
        let host = endpoint.local_addr().unwrap().ip();
        let send = |port| endpoint.send_to(b"unasked", (host, port)).unwrap();

        assert_eq!(control.ask(&bind), "ok");
        send(port(control.ask("udp-port")));
        let from = endpoint.local_addr().unwrap();
        assert_eq!(control.ask("udp-receive"), format!("7 from {from}"));

        assert_eq!(worker.ask(&bind), "ok");
        let own = port(worker.ask("udp-port"));
        send(own);
        assert_eq!(worker.ask("udp-receive"), "EAGAIN", "{server}");
        refused += 1;
        assert_eq!(fence.count(Reason::Inbound), refused, "{server}");

        // The same socket, once it has asked.
        assert_eq!(worker.ask(&format!("udp-to {server}")), "ok");
        assert_eq!(resolver.next().port(), own);
        assert_eq!(worker.ask("udp-receive"), format!("4 from {server}"));
        send(own);
        assert_eq!(worker.ask("udp-receive"), format!("7 from {server}"));
        assert_eq!(fence.count(Reason::Inbound), refused, "{server}");
    }
}

#[test]
fn without_a_resolver_port_53_is_refused() {
    let (_lab, resolver, mut fence) = fence();
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("udp 8.8.8.8:53"), "ok");
    resolver.next();
    fence.kernel.clear_resolver().unwrap();
    assert_eq!(fence.kernel.resolver_port(), 0);
    assert_eq!(worker.ask("udp 8.8.8.8:53"), "EPERM");
    assert_eq!(worker.ask("tcp [2001:4860:4860::8888]:53"), "EPERM");
    assert!(fence.count(Reason::DnsNotRedirected) >= 2);
    let refused = fence.kernel.set_resolver(RESOLVER_PORT_END, PACE);
    assert!(matches!(refused, Err(Error::ResolverPort(_))));
}

#[test]
fn clients_are_bounded_and_go() {
    let (_lab, resolver, mut fence) = fence();
    let runtime = super::lab::runtime();
    let _entered = runtime.enter();
    let mut events = fence.kernel.events().unwrap();
    let (session, mut worker) = fence.worker();
    let (_, mut other) = fence.worker();
    let clients = fence.kernel.clients();
    let answer = worker.ask(&format!("udp-many 8.8.8.8:53 {}", 4 * CLIENTS_PER_SECOND));
    let numbers: Vec<u32> = answer.split(' ').map(|n| n.parse().unwrap()).collect();
    let [sent, refused, seconds] = numbers[..] else {
        panic!("{answer}");
    };
    assert_eq!(sent + refused, 4 * CLIENTS_PER_SECOND);
    assert!(sent >= CLIENTS_PER_SECOND, "{answer}");
    // It begins somewhere in the first second and ends somewhere in the last.
    assert!(sent <= (seconds + 2) * CLIENTS_PER_SECOND, "{answer}");
    assert!(refused > 0, "{answer}");
    assert_eq!(fence.count(Reason::QueryLimit), u64::from(refused));
    let told = events.try_next().unwrap();
    assert_eq!(told.reason, Reason::QueryLimit as u8);
    assert_eq!((told.session, told.hook), (session, Hook::Egress as u8));
    assert_eq!(
        other.ask("udp 8.8.8.8:53"),
        "ok",
        "the bound is each one's own"
    );
    let held = fence.kernel.inner.maps.clients.keys().unwrap().len();
    assert_eq!(held, sent as usize + 1);
    thread::sleep(CLIENT_LIFE);
    assert!(clients.sweep().unwrap() > 0);
    assert!(fence.kernel.inner.maps.clients.keys().unwrap().is_empty());

    while resolver.asked.try_recv().is_ok() {}
    assert_eq!(worker.ask("udp 8.8.8.8:53"), "ok");
    let from = resolver.next();
    let id = fence.cgroup(session).id();
    drop(worker);
    fence.attached.closing(session, id).unwrap();
    let begin = Instant::now();
    while clients.find(from, UDP).unwrap() == Some(session) {
        assert!(begin.elapsed() < Duration::from_secs(2));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_flow_to_the_resolver_survives_a_push_and_a_sweep() {
    let (_lab, _resolver, mut fence) = fence();
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("tcp-keep 8.8.8.8:53"), "ok");
    let runtime = super::lab::runtime();
    let _entered = runtime.enter();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    let other = super::policies::open("93.184.216.34/32", TCP, 443, 1);
    fence.push(&policy(Mode::Enforce, NO_LIMITS, &[other]));
    assert_eq!(destroyer.sweep().unwrap().sockets, 0);
    assert_eq!(worker.ask("stream-echo"), "ok");
}
