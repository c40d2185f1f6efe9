//! Hellos on a slow path, where the host's congestion control sends by the clock.

use std::{fs, process::Command, thread::sleep, time::Duration};

use common::{
    decide::Mode,
    verdict::{Outcome, Reason},
};

use super::{
    hello::{digits, hello, post_quantum},
    scene::{Scene, WAYS},
};
use crate::kernel::tests::{lab::WORLD_MAC, worker::Worker};

const CHOSEN: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// How late the world takes note of a connection: TCP has measured this round trip when it sends first,
/// and has not yet sent again (RFC 6298, 2.1).
const LATE: Duration = Duration::from_millis(600);

/// Of the congestion controls that send by the clock, one that this kernel has.
fn paced() -> Option<&'static str> {
    let names = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    names
        .split_whitespace()
        .any(|name| name == "bbr")
        .then_some("bbr")
}

/// A worker with a connection over a path that was slow when it was measured.
fn worker(scene: &mut Scene, way: &str) -> Worker {
    let (_, mut worker) = scene.fence.worker();
    // 8: it answers nobody who asks for its address (Linux, networking/ip-sysctl).
    let deaf = || fs::write("/proc/sys/net/ipv4/conf/veth-w/arp_ignore", "8").unwrap();
    scene.lab.in_world(deaf);
    ip("neigh del 192.168.77.2 dev veth-h");
    worker.say(&format!("tcp-keep {way}"));
    sleep(LATE);
    let known = format!("neigh replace 192.168.77.2 lladdr {WORLD_MAC} dev veth-h nud permanent");
    ip(&known);
    assert_eq!(worker.answer(), "ok", "{way}");
    worker
}

fn ip(arguments: &str) {
    let ended = Command::new("ip").args(arguments.split(' ')).status();
    assert!(ended.unwrap().success(), "ip {arguments}");
}

/// Waits until the worker's connection has this congestion control.
fn becomes(worker: &mut Worker, name: &str) -> bool {
    (0..100).any(|_| {
        sleep(Duration::from_millis(10));
        worker.ask("stream-congestion") == name
    })
}

#[test]
fn a_long_hello_passes_on_a_slow_path() {
    let mut scene = Scene::new(Mode::Enforce);
    // Without one there is nothing to be slow: the rest holds all the same.
    let chosen = paced().unwrap_or("cubic");
    fs::write(CHOSEN, chosen).unwrap();
    let mut expected: Vec<u8> = Vec::new();
    for way in [WAYS[0], WAYS[2]] {
        for bytes in [
            post_quantum("api.example"),
            hello(b"api.example", 2_700, None),
        ] {
            let mut worker = worker(&mut scene, way);
            let before = if chosen == "bbr" { "reno" } else { chosen };
            assert_eq!(worker.ask("stream-congestion"), before);
            let line = format!("stream-write {}", digits(&bytes));
            assert_eq!(worker.ask(&line), "ok");
            expected.extend(&bytes);
            let got = scene.sink.wait(expected.len());
            assert!(got == expected, "{way}: {} bytes", bytes.len());
            // What the host chose is in force again once the name was seen.
            assert_eq!(worker.ask("stream-write 474554"), "ok");
            expected.extend(b"GET");
            assert_eq!(scene.sink.wait(expected.len()), expected);
            assert!(becomes(&mut worker, chosen), "{way}: {chosen} not again");
        }
    }
}

#[test]
fn a_long_hello_for_another_name_is_refused_on_a_slow_path() {
    let mut scene = Scene::new(Mode::Enforce);
    fs::write(CHOSEN, paced().unwrap_or("cubic")).unwrap();
    let mut worker = worker(&mut scene, WAYS[0]);
    worker.say(&format!(
        "stream-write {}",
        digits(&post_quantum("evil.example"))
    ));
    let told = scene.event(Outcome::Deny);
    assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsName));
    assert_eq!(told.name.as_deref(), Some("evil.example"));
    scene.destroy();
    worker.answer();
    assert_eq!(scene.sink.got(), b"");
}

#[test]
fn a_program_keeps_the_congestion_control_that_it_chose() {
    let mut scene = Scene::new(Mode::Enforce);
    fs::write(CHOSEN, paced().unwrap_or("reno")).unwrap();
    let mut worker = scene.worker(WAYS[0]);
    assert_eq!(worker.ask("stream-congestion cubic"), "cubic");
    let bytes = hello(b"api.example", 32, None);
    for _ in 0..2 {
        assert_eq!(
            worker.ask(&format!("stream-write {}", digits(&bytes))),
            "ok"
        );
        sleep(Duration::from_millis(50));
    }
    assert_eq!(worker.ask("stream-congestion"), "cubic");
}
