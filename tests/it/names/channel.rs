//! DNS as a way out: odd labels, other record types, other resolvers, other ports. Each attempt has a
//! control that shows where it would arrive.

use std::net::SocketAddr;

use super::scene::{Scene, ask};

/// Names under a wildcard that a minute certainly does not allow.
const LABELS: u32 = 400;

fn label(number: u32) -> String {
    format!("{number:04}-c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0")
}

fn labels_seen(scene: &Scene) -> usize {
    let asked = scene.world.names.asked();
    let mut names: Vec<_> = asked
        .into_iter()
        .map(|asked| asked.name)
        .filter(|name| name.ends_with(".wild.example") && name.contains("c2vjcmv0"))
        .collect();
    names.sort();
    names.dedup();
    names.len()
}

#[test]
fn a_tunnel_under_a_wildcard_ends_at_its_budget() {
    let scene = Scene::new();
    let events = scene.events();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    for number in 0..5 {
        let script = format!(
            "ask udp 8.8.8.8:53 {}.wild.example A",
            label(number + 5_000)
        );
        assert_eq!(ask(&mut bare, &script).values.len(), 2, "control");
    }
    assert_eq!(labels_seen(&scene), 5, "control: every label arrives");
    let mut refused = 0;
    for number in 0..LABELS {
        let script = format!("ask udp 8.8.8.8:53 {}.wild.example A", label(number));
        let answer = ask(&mut fenced, &script);
        if answer.values.len() < 2 {
            refused += 1;
        }
    }
    let left = labels_seen(&scene) - 5;
    assert!(refused > LABELS / 2, "{refused} of {LABELS} refused");
    assert!(left <= 130, "{left} labels left the host");
    let event = events.await_reason("name_budget");
    assert_eq!(event["tool"], "prober", "{event}");
    // What is listed by its own name goes on.
    let answer = ask(&mut fenced, "ask udp 8.8.8.8:53 site.example A");
    assert_eq!(answer.values, ["NOERROR", "93.184.216.34"]);
    scene.end();
}

#[test]
fn texts_are_no_way_in() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    let script = "ask udp 8.8.8.8:53 a.wild.example TXT";
    assert_eq!(
        ask(&mut bare, script).values,
        ["NOERROR", "TYPE16"],
        "control"
    );
    let answer = ask(&mut fenced, script);
    assert!(!answer.values.contains(&"TYPE16".to_owned()), "{answer:?}");
    let events = scene.events();
    ask(&mut fenced, script);
    let event = events.await_reason("record_not_allowed");
    assert_eq!(event["name"], "a.wild.example", "{event}");
    assert_eq!(event["record"], "TXT", "{event}");
}

#[test]
fn every_resolver_is_ours() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    for server in [
        "8.8.8.8:53",
        "10.0.0.53:53",
        "127.0.0.53:53",
        "[2001:4860:4860::8888]:53",
    ] {
        for how in ["udp", "tcp"] {
            let script = format!("ask {how} {server} site.example A");
            if !server.starts_with("127") {
                assert!(ask(&mut bare, &script).ok, "control: {script}");
            }
            let answer = ask(&mut fenced, &script);
            assert_eq!(
                answer.values,
                ["NOERROR", "93.184.216.34"],
                "{script}: {answer:?}"
            );
        }
    }
    let asked = scene.world.names.asked();
    let by_the_worker = asked
        .iter()
        .filter(|asked| asked.server.to_string() == "10.0.0.53")
        .count();
    assert_eq!(by_the_worker, 2, "only the control went there");
    let udp: SocketAddr = "10.0.0.53:53".parse().expect("an address");
    let packets = scene
        .world
        .lab
        .arrived_at_port(udp)
        .expect("the recorder answers");
    assert!(packets > 0, "control");
}

#[test]
fn dns_by_other_doors_is_refused() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    for script in [
        // DNS over TLS and over QUIC.
        "socket inet stream; connect 8.8.8.8:853; send 5; recv",
        "socket inet dgram; sendto 8.8.8.8:853 5; recv",
        "socket inet6 stream; connect [2001:4860:4860::8888]:853; send 5; recv",
        // DNS over HTTPS by address; its port alone opens nothing.
        "socket inet stream; connect 8.8.8.8:8443; send 5; recv",
        "socket inet stream; connect 8.8.8.8:9000; send 5; recv",
        // Multicast names and NetBIOS.
        "socket inet dgram; sendto 8.8.8.8:9000 5; recv",
    ] {
        assert!(ask(&mut bare, script).ok, "control: {script}");
        let answer = ask(&mut fenced, script);
        assert_eq!(answer.errno(), "EPERM", "{script}: {answer:?}");
    }
    for script in [
        "socket inet dgram; sendto 224.0.0.251:5353 5",
        "socket inet6 dgram; sendto [ff02::fb%2]:5353 5",
        "socket inet dgram; sendto 224.0.0.252:5355 5",
        "socket inet dgram; sendto 45.33.32.255:137 5",
    ] {
        let answer = ask(&mut fenced, script);
        assert!(!answer.ok, "{script}: {answer:?}");
    }
    // A name of a DoH server has no rule, so it has no address.
    let doh = ask(&mut fenced, "ask udp 8.8.8.8:53 dns.google A");
    assert!(doh.values.len() < 2, "{doh:?}");
    assert!(!scene.world.names.knows_of("dns.google"));
}

#[test]
fn an_address_without_its_name_is_refused() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    let script = "socket inet stream; connect 93.184.216.34:8443; send 5; recv";
    assert!(ask(&mut bare, script).ok, "control");
    let answer = ask(&mut fenced, script);
    assert_eq!(answer.errno(), "EPERM", "{answer:?}");
    ask(&mut fenced, "ask udp 8.8.8.8:53 site.example A");
    let dial = "socket inet stream; connect 93.184.216.34:8443";
    assert!(ask(&mut fenced, dial).ok, "after its name was asked");
    let beside = "socket inet stream; connect 93.184.216.35:8443";
    assert_eq!(ask(&mut fenced, beside).errno(), "EPERM");
}

#[test]
fn the_resolver_answers_workers_only_and_not_by_its_own_address() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    let status = scene.agent.json("status").expect("the agent answers");
    let port = &status["resolver"]["port"];
    let port = port.as_u64().unwrap_or_else(|| panic!("no port: {status}"));
    for (script, what) in [
        (format!("ask udp 127.0.0.1:{port} site.example A"), "udp"),
        (format!("ask tcp 127.0.0.1:{port} site.example A"), "tcp"),
        (format!("ask udp [::1]:{port} site.example A"), "udp6"),
    ] {
        // By its own address a worker does not reach it: loopback is shut.
        let answer = ask(&mut fenced, &script);
        assert_eq!(answer.errno(), "EPERM", "{what}: {answer:?}");
        // Programs of the host reach it and get no address.
        let answer = bare.ask(&script);
        if let Ok(answer) = answer {
            assert!(answer.values.len() < 2, "{what}: {answer:?}");
        }
    }
    // The resolver goes on for its workers.
    let answer = ask(&mut fenced, "ask udp 8.8.8.8:53 site.example A");
    assert_eq!(answer.values, ["NOERROR", "93.184.216.34"]);
}
