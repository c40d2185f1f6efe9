//! What real sockets of a worker may do.

use common::{
    decide::Mode,
    flow::{TCP, UDP},
    id::SessionId,
    verdict::Reason,
};

use super::{
    lab::{Fence, Lab},
    policies::{LIMITS, NO_LIMITS, door, open, policy},
};
use crate::policy::compiled::EgressLimits;

const ALLOWED: &str = "93.184.216.34";
const OTHER: &str = "93.184.216.35";

#[test]
fn tcp_reaches_what_the_rule_names_and_nothing_else() {
    let lab = Lab::new();
    for address in [ALLOWED, OTHER, "10.1.1.1", "169.254.169.254"] {
        lab.tcp(&format!("{address}:443"));
        lab.tcp(&format!("{address}:80"));
    }
    let rules = [open("93.184.216.34/32", TCP, 443, 7)];
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("tcp [::ffff:93.184.216.34]:443"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.34:80"), "EPERM");
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    assert_eq!(worker.ask("tcp [::ffff:93.184.216.35]:443"), "EPERM");
    assert_eq!(worker.ask("udp 93.184.216.34:443"), "EPERM");
    assert_eq!(worker.ask("tcp 10.1.1.1:443"), "EPERM");
    assert_eq!(worker.ask("tcp 169.254.169.254:80"), "EPERM");
    assert_eq!(worker.ask("tcp 0.0.0.0:443"), "EPERM");
    assert_eq!(worker.ask("tcp 127.0.0.1:443"), "EPERM");
    assert_eq!(worker.ask("tcp [::1]:443"), "EPERM");
    assert_eq!(worker.ask("tcp [2606:2800:220:1::34]:443"), "EPERM");
    assert_eq!(worker.ask("tcp 192.168.77.1:443"), "EPERM");
    assert_eq!(worker.ask("tcp [2600:1f00::1]:443"), "EPERM");
    assert!(fence.count(Reason::PrivateAddress) >= 2);
    assert!(fence.count(Reason::LocalAddress) >= 4);
    assert!(fence.count(Reason::NotAllowed) >= 4);
    assert_eq!(fence.count(Reason::Rule), 2);
}

#[test]
fn prefixes_and_doors() {
    let lab = Lab::new();
    lab.tcp("93.184.216.35:443");
    lab.tcp("10.1.1.1:5432");
    lab.tcp("10.1.1.1:443");
    lab.tcp("[2606:2800:220:1::34]:443");
    let rules = [
        open("93.184.216.0/24", TCP, 443, 1),
        open("2606:2800::/32", TCP, 443, 2),
        open("10.0.0.0/8", TCP, 443, 3),
        door("10.1.1.1/32", TCP, 5432, 4),
    ];
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "ok");
    assert_eq!(worker.ask("tcp [2606:2800:220:1::34]:443"), "ok");
    assert_eq!(worker.ask("tcp 10.1.1.1:5432"), "ok");
    assert_eq!(worker.ask("tcp 10.1.1.1:443"), "EPERM");
}

#[test]
fn a_door_leads_to_loopback() {
    let _lab = Lab::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = super::lab::serve(listener);
    let closed = super::lab::serve(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let rules = [door("127.0.0.1/32", TCP, server.port(), 4)];
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask(&format!("tcp-keep {server}")), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");
    assert_eq!(worker.ask(&format!("tcp {closed}")), "EPERM");
}

#[test]
fn udp_connected_and_unconnected() {
    let lab = Lab::new();
    let allowed = lab.udp("93.184.216.34:4000");
    let other = lab.udp("93.184.216.35:4000");
    let rules = [open("93.184.216.34/32", UDP, 4000, 7)];
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let (session, mut worker) = fence.worker();
    let mut buffer = [0; 16];

    assert_eq!(worker.ask("udp-keep 93.184.216.34:4000"), "ok");
    assert_eq!(worker.ask("udp-to 93.184.216.35:4000"), "EPERM");
    assert_eq!(worker.ask("udp-to 93.184.216.34:4000"), "ok");
    let (_, worker_address) = allowed.recv_from(&mut buffer).unwrap();
    assert_eq!(worker.ask("udp-to 93.184.216.34:4000"), "ok");
    allowed.recv_from(&mut buffer).unwrap();
    assert_eq!(worker.ask("udp-to 93.184.216.35:4000"), "EPERM");
    let usage = fence.attached.usage(session).unwrap().unwrap();
    assert_eq!(usage.connections, 1, "one destination, one connection");

    other.send_to(b"knock", worker_address).unwrap();
    assert_eq!(worker.ask("udp-receive"), "EAGAIN");
    assert_eq!(fence.count(Reason::Inbound), 1);
    allowed.send_to(b"answer", worker_address).unwrap();
    assert_eq!(worker.ask("udp-receive"), "6 from 93.184.216.34:4000");

    assert_eq!(worker.ask("udp-connect 93.184.216.35:4000"), "EPERM");
    assert_eq!(worker.ask("udp-connect 93.184.216.34:4000"), "ok");
    assert_eq!(worker.ask("udp-send"), "ok");
    allowed.recv_from(&mut buffer).unwrap();
    assert!(other.recv_from(&mut buffer).is_err(), "nothing came here");
}

#[test]
fn kinds_of_sockets_and_ports() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("raw"), "EACCES");
    assert_eq!(worker.ask("ping"), "EACCES");
    assert_eq!(worker.ask("bind-tcp 0.0.0.0:8080"), "EACCES");
    assert_eq!(worker.ask("bind-udp [::]:8080"), "EACCES");
    assert_eq!(worker.ask("bind-tcp 0.0.0.0:0"), "ok");
    assert_eq!(worker.ask("bind-udp [::]:0"), "ok");
    assert_eq!(fence.count(Reason::SocketType), 2);
    assert_eq!(fence.count(Reason::BindPort), 2);
}

#[test]
fn nobody_dials_a_worker() {
    let lab = Lab::new();
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    let (_, mut worker) = fence.worker();
    let address: std::net::SocketAddr = worker.ask("listen 192.168.77.1:0").parse().unwrap();
    let wait = super::lab::scaled(std::time::Duration::from_millis(300));
    let dialled = lab.in_world(|| std::net::TcpStream::connect_timeout(&address, wait));
    assert!(dialled.is_err());
    assert!(fence.count(Reason::Inbound) >= 1);
    // The same dial to a listener outside the fence works.
    let control = super::lab::serve(std::net::TcpListener::bind("192.168.77.1:0").unwrap());
    lab.in_world(|| std::net::TcpStream::connect_timeout(&control, wait))
        .unwrap();
}

#[test]
fn a_socket_of_nobody_is_refused() {
    let _lab = Lab::new();
    let fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    // Under the hooks, but never admitted. Not the parent itself: where its children have
    // controllers, it holds no process.
    let nobody = fence.remains.parent.session(SessionId(99), &LIMITS);
    let mut stranger = super::worker::Worker::start(nobody.unwrap().path());
    assert_eq!(stranger.ask("bind-tcp 0.0.0.0:0"), "EPERM");
    assert_eq!(fence.count(Reason::UnknownWorker), 1);
    drop(stranger);
}

#[test]
fn observe_reports_and_keeps_private_ranges_shut() {
    let lab = Lab::new();
    lab.tcp("93.184.216.35:443");
    lab.tcp("10.1.1.1:443");
    let mut fence = Fence::new(&policy(Mode::Observe, NO_LIMITS, &[]));
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("tcp-keep 93.184.216.35:443"), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");
    assert_eq!(worker.ask("tcp 10.1.1.1:443"), "EPERM");
    assert_eq!(worker.ask("tcp 93.184.216.35:53"), "EPERM");
}

#[test]
fn quotas_are_spent() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let limits = EgressLimits {
        connections: 2,
        bytes_out: u64::MAX,
    };
    let rules = [open("93.184.216.34/32", TCP, 443, 7)];
    let mut fence = Fence::new(&policy(Mode::Enforce, limits, &rules));
    let (session, mut worker) = fence.worker();
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
    assert_eq!(worker.ask("stream-echo"), "ok", "what is open goes on");
    let usage = fence.attached.usage(session).unwrap().unwrap();
    assert_eq!(usage.connections, 2);
    assert!(usage.bytes_out > 200);
    assert_eq!(fence.count(Reason::LimitConnections), 1);

    let limits = EgressLimits {
        connections: u64::MAX,
        bytes_out: usage.bytes_out + 1,
    };
    fence.push(&policy(Mode::Enforce, limits, &rules));
    assert_ne!(worker.ask("stream-echo"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
    assert!(fence.count(Reason::LimitBytes) >= 2);
}
