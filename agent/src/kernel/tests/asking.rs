//! The quick look at what goes to the resolver: where it must end, and how many datagrams of a session
//! pass it.

use std::{thread, time::Duration};

use common::{
    decide::Mode,
    event::Hook,
    flow::{TCP, UDP},
    id::SessionId,
    layout::{Client, ClientKey},
    verdict::Reason,
};

use super::{
    lab::Fence,
    policies::{NO_LIMITS, open, policy},
    resolver::{PACE, PORT, Resolver, fence},
    worker::Worker,
};
use crate::{clock::BootTime, kernel::clients::Pace, sys::bpf_map::Write};

const V4: [&str; 2] = ["0.0.0.0:0", "8.8.8.8:53"];
const V6: [&str; 2] = ["[::]:0", "[2001:4860:4860::8888]:53"];

/// A worker with a connected socket that has asked twice: the second question took the quick way.
fn asked(fence: &mut Fence, resolver: &Resolver, [own, server]: [&str; 2]) -> (SessionId, Worker) {
    let (session, mut worker) = fence.worker();
    assert_eq!(worker.ask(&format!("udp-keep {own}")), "ok");
    assert_eq!(worker.ask(&format!("udp-connect {server}")), "ok");
    for _ in 0..2 {
        assert_eq!(worker.ask("udp-send"), "ok");
        let from = resolver.next();
        let found = fence.kernel.clients().find(from, UDP).unwrap();
        assert_eq!(found, Some(session));
        assert_eq!(worker.ask("udp-receive"), format!("4 from {server}"));
    }
    (session, worker)
}

#[test]
fn a_resolver_that_is_gone_or_elsewhere_gets_no_packet_of_who_asked_before() {
    let (_lab, resolver, mut fence) = fence();
    for way in [V4, V6] {
        let (_, mut worker) = asked(&mut fence, &resolver, way);
        fence.kernel.clear_resolver().unwrap();
        assert_eq!(worker.ask("udp-send"), "EPERM", "{way:?}");
        assert!(resolver.is_left_alone());
        fence.kernel.set_resolver(PORT, PACE).unwrap();

        let (_, mut worker) = asked(&mut fence, &resolver, way);
        fence.kernel.set_resolver(PORT - 1, PACE).unwrap();
        assert_eq!(worker.ask("udp-send"), "EPERM", "{way:?}");
        // Who is not connected is sent to where it is now.
        assert_eq!(worker.ask(&format!("udp-keep {}", way[0])), "ok");
        assert_eq!(worker.ask(&format!("udp-to {}", way[1])), "ok");
        assert!(resolver.is_left_alone());
        fence.kernel.set_resolver(PORT, PACE).unwrap();
    }
}

#[test]
fn a_session_that_is_forgotten_and_a_policy_that_is_gone_end_the_quick_way() {
    let (_lab, resolver, mut fence) = fence();
    for way in [V4, V6] {
        let (session, mut worker) = asked(&mut fence, &resolver, way);
        assert_eq!(worker.ask(&format!("udp-to {}", way[1])), "ok");
        resolver.next();
        assert!(fence.kernel.inner.maps.usage.remove(&session).is_ok());
        assert_eq!(worker.ask("udp-send"), "EPERM", "{way:?}");
        assert_eq!(worker.ask(&format!("udp-to {}", way[1])), "EPERM");
        assert!(resolver.is_left_alone());
    }
    assert!(fence.count(Reason::UnknownWorker) >= 4);
    let (_, mut worker) = asked(&mut fence, &resolver, V4);
    let synced = fence.kernel.sync(&[]).unwrap();
    assert_eq!(worker.ask("udp-send"), "EPERM");
    assert_eq!(worker.ask("udp-to 8.8.8.8:53"), "EPERM");
    assert!(resolver.is_left_alone());
    fence.synced = synced;
}

#[test]
fn after_a_push_a_socket_asks_on_by_the_full_decision() {
    let (_lab, resolver, mut fence) = fence();
    let (session, mut worker) = asked(&mut fence, &resolver, V4);
    let other = open("93.184.216.34/32", TCP, 443, 1);
    fence.push(&policy(Mode::Enforce, NO_LIMITS, &[other]));
    for _ in 0..2 {
        assert_eq!(worker.ask("udp-send"), "ok");
        let found = fence.kernel.clients().find(resolver.next(), UDP).unwrap();
        assert_eq!(found, Some(session));
        assert_eq!(worker.ask("udp-receive"), "4 from 8.8.8.8:53");
    }
    // What the quick way knows of the resolver opens nothing else.
    for elsewhere in ["93.184.216.35:53", "127.0.0.1:53"] {
        assert_eq!(worker.ask(&format!("udp-to {elsewhere}")), "ok");
        assert_eq!(
            fence.kernel.clients().find(resolver.next(), UDP).unwrap(),
            Some(session),
            "{elsewhere}"
        );
    }
    for elsewhere in ["93.184.216.34:443", "127.0.0.1:1022"] {
        assert_eq!(worker.ask(&format!("udp-to {elsewhere}")), "EPERM");
    }
    assert!(resolver.is_left_alone());
}

/// The same port may have been another session's a moment ago.
#[test]
fn a_source_that_is_known_as_anothers_is_written_down_anew() {
    let (_lab, resolver, mut fence) = fence();
    let (session, mut worker) = asked(&mut fence, &resolver, V4);
    assert_eq!(worker.ask("udp-send"), "ok");
    let from = resolver.next();
    let key = ClientKey {
        netns: fence.kernel.inner.netns,
        address: from.ip().into(),
        port: from.port(),
        protocol: UDP,
        pad: 0,
    };
    let other = Client {
        session: SessionId(session.0 + 1),
        seen_ns: BootTime::now().0,
    };
    let clients = &fence.kernel.inner.maps.clients;
    clients.write(&key, &other, Write::Any).unwrap();
    assert_eq!(worker.ask("udp-send"), "ok");
    assert_eq!(resolver.next(), from);
    let found = fence.kernel.clients().find(from, UDP).unwrap();
    assert_eq!(found, Some(session));
}

#[test]
fn who_asks_servers_by_turns_hears_from_each() {
    let (_lab, resolver, mut fence) = fence();
    let (_, mut worker) = fence.worker();
    let servers = ["8.8.8.8:53", "8.8.8.8:53", "9.9.9.9:53", "8.8.8.8:53"];
    let others = [
        "[2001:4860:4860::8888]:53",
        "[2620:fe::fe]:53",
        "9.9.9.9:53",
    ];
    for (own, servers) in [(V4[0], &servers[..]), (V6[0], &others[..])] {
        assert_eq!(worker.ask(&format!("udp-keep {own}")), "ok");
        for server in servers.iter().chain(servers) {
            let mapped = if own == V6[0] && !server.starts_with('[') {
                format!("[::ffff:{}]:53", server.trim_end_matches(":53"))
            } else {
                (*server).to_owned()
            };
            assert_eq!(worker.ask(&format!("udp-to {mapped}")), "ok");
            resolver.next();
            assert_eq!(worker.ask("udp-receive"), format!("4 from {mapped}"));
        }
    }
}

#[test]
fn a_session_that_floods_the_resolver_is_held_to_its_pace_and_no_other_is() {
    let (_lab, resolver, mut fence) = fence();
    let runtime = super::lab::runtime();
    let _entered = runtime.enter();
    let mut events = fence.kernel.events().unwrap();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    let (session, mut worker) = asked(&mut fence, &resolver, V4);
    let (other, mut neighbour) = fence.worker();
    fence.kernel.set_resolver(PORT, Pace::new(100, 50)).unwrap();

    let answer = worker.ask("udp-send-all 20000");
    let numbers: Vec<u64> = answer.split(' ').map(|n| n.parse().unwrap()).collect();
    let [sent, dropped, seconds] = numbers[..] else {
        panic!("{answer}");
    };
    assert_eq!(sent + dropped, 20_000);
    assert!(sent >= 50 && sent <= 50 + (seconds + 1) * 100, "{answer}");
    let usage = fence.attached.usage(session).unwrap().unwrap();
    assert_eq!(usage.questions_dropped, dropped);
    assert_eq!(fence.count(Reason::QueryLimit), dropped);
    let told = events.try_next().unwrap();
    assert_eq!(told.reason, Reason::QueryLimit as u8);
    assert_eq!((told.session, told.hook), (session, Hook::Egress as u8));

    // The first packet of a socket, which takes the full decision, is bounded too.
    fence.kernel.set_resolver(PORT, Pace::new(1, 1)).unwrap();
    assert_eq!(worker.ask("udp 8.8.8.8:53"), "EPERM");
    // A connection is not.
    assert_eq!(worker.ask("tcp-keep 8.8.8.8:53"), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");

    // Who did not flood asks as if nobody had.
    fence.kernel.set_resolver(PORT, Pace::new(100, 50)).unwrap();
    resolver.forget();
    assert_eq!(neighbour.ask("udp-keep 0.0.0.0:0"), "ok");
    for _ in 0..40 {
        assert_eq!(neighbour.ask("udp-to 8.8.8.8:53"), "ok");
        assert_eq!(neighbour.ask("udp-receive"), "4 from 8.8.8.8:53");
    }
    let usage = fence.attached.usage(other).unwrap().unwrap();
    assert_eq!(usage.questions_dropped, 0);

    // The socket that flooded is not destroyed: it asks again when the time has come.
    assert_eq!(destroyer.sweep().unwrap().sockets, 0);
    thread::sleep(Duration::from_millis(100));
    fence.kernel.set_resolver(PORT, PACE).unwrap();
    assert_eq!(worker.ask("udp-send"), "ok");
}
