//! The name in the handshake: one address, many sites, and only those that the policy names.
//!
//! `site.example` and `other.example` share an address. The rows dial a server that sends back
//! whatever it gets, so that a byte which arrives is seen, and a control shows that it would be.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lab::{dns::zone::SHARED_V4, prober::Prober};

use super::scene::{Scene, ask};

const SHARED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SHARED_V4), 8443);
const RESOLVE: &str = "ask udp 8.8.8.8:53 site.example A";
const DIAL: &str = "socket inet stream; connect 93.184.216.34:8443";
/// A refused hello takes its socket along: a program waits for nothing.
const SOON: Duration = Duration::from_secs(2);

/// What is sent first over a connection to the shared address, and what must come of it.
struct Row {
    what: &'static str,
    script: &'static str,
    /// The reason of the refusal; none where it passes.
    reason: Option<&'static str>,
}

const fn passes(what: &'static str, script: &'static str) -> Row {
    Row {
        what,
        script,
        reason: None,
    }
}

const fn refused(what: &'static str, script: &'static str, reason: &'static str) -> Row {
    Row {
        what,
        script,
        reason: Some(reason),
    }
}

const ROWS: &[Row] = &[
    passes("the allowed name", "payload hello site.example; send"),
    passes(
        "the allowed name in capitals",
        "payload hello SITE.Example; send",
    ),
    passes(
        "a hello as large as those with post-quantum keys",
        "payload hello site.example pad=1300; send",
    ),
    passes(
        "a hello of more than one segment",
        "payload hello site.example pad=2400; send",
    ),
    passes(
        "a hello in two writes",
        "payload hello site.example; sendpart 0 40; sleep 20; sendpart 40 4096",
    ),
    passes(
        "data after the hello",
        "payload hello site.example; send; recv; payload hex 17030300050102030405; send",
    ),
    refused(
        "another site on the same address",
        "payload hello other.example; send",
        "tls_name",
    ),
    refused(
        "the same in two writes",
        "payload hello other.example; sendpart 0 40; sleep 20; sendpart 40 4096",
        "tls_name",
    ),
    refused(
        "a name below the allowed one",
        "payload hello x.site.example; send",
        "tls_name",
    ),
    refused(
        "the end of the allowed name",
        "payload hello example; send",
        "tls_name",
    ),
    refused(
        "a name that ends like it",
        "payload hello notsite.example; send",
        "tls_name",
    ),
    refused(
        "a name with a dot at its end",
        "payload hello site.example.; send",
        "tls_malformed",
    ),
    refused(
        "the address as name",
        "payload hello 93.184.216.34; send",
        "tls_name",
    ),
    refused(
        "a site that only another port has",
        "payload hello third.example; send",
        "tls_name",
    ),
    refused("no name", "payload hello -; send", "tls_no_name"),
    refused("ech", "payload hello site.example ech; send", "tls_hidden"),
    refused(
        "two names in one list",
        "payload hello site.example other.example; send",
        "tls_malformed",
    ),
    refused(
        "two lists of names",
        "payload hello site.example twice=other.example; send",
        "tls_malformed",
    ),
    refused(
        "the refused name first, the allowed one after",
        "payload hello other.example twice=site.example; send",
        "tls_malformed",
    ),
    refused(
        "a record boundary inside the hello",
        "payload hello site.example split=20; send",
        "tls_malformed",
    ),
    refused(
        "another kind of record",
        "payload hello site.example content=23; send",
        "tls_malformed",
    ),
    refused(
        "plain http",
        "payload hex 474554202f20485454502f312e310d0a486f73743a20736974652e6578616d706c650d0a0d0a; send",
        "tls_malformed",
    ),
    refused(
        "an ssh banner",
        "payload hex 5353482d322e302d780d0a; send",
        "tls_malformed",
    ),
    refused(
        "one byte that begins no handshake",
        "payload hex 00; send",
        "tls_malformed",
    ),
    refused(
        "urgent data",
        "payload hello site.example; send 5 oob",
        "tls_malformed",
    ),
];

/// Bytes that have arrived at the shared address.
fn arrived(scene: &Scene) -> u64 {
    std::thread::sleep(Duration::from_millis(30));
    scene.world.lab.servers().seen(SHARED).bytes
}

fn resolve(prober: &mut Prober) {
    let answer = ask(prober, RESOLVE);
    assert_eq!(answer.values, ["NOERROR", "93.184.216.34"], "{answer:?}");
}

#[test]
fn only_allowed_names_are_spoken_to_on_a_shared_address() {
    let scene = Scene::new();
    let events = scene.events();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    resolve(&mut fenced);
    let mut complaints = Vec::new();
    for row in ROWS {
        let script = format!("{DIAL}; {}; patience 2000; recv", row.script);
        let before = arrived(&scene);
        let control = ask(&mut bare, &script);
        assert!(control.ok, "control: {}: {control:?}", row.what);
        let after = arrived(&scene);
        assert!(after > before, "control: {}", row.what);
        events.forget();
        let began = Instant::now();
        let answer = ask(&mut fenced, &script);
        let took = began.elapsed();
        let bytes = arrived(&scene) - after;
        match row.reason {
            None if !answer.ok || bytes == 0 => {
                complaints.push(format!("{} must pass: {answer:?}", row.what));
            }
            Some(_) if bytes != 0 => {
                complaints.push(format!("{}: {bytes} bytes arrived", row.what));
            }
            Some(_) if answer.received != 0 || took > SOON => {
                complaints.push(format!("{} took {took:?}: {answer:?}", row.what));
            }
            Some(reason) => {
                let event = events.await_reason(reason);
                if event["destination"].as_str().is_none() && event["address"].as_str().is_none() {
                    complaints.push(format!("{}: {event}", row.what));
                }
            }
            None => {}
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_event_of_a_refused_handshake_names_it() {
    let scene = Scene::new();
    let events = scene.events();
    let mut fenced = scene.prober();
    resolve(&mut fenced);
    let script = format!("{DIAL}; payload hello other.example; send; patience 2000; recv");
    assert!(ask(&mut fenced, &script).received == 0);
    let event = events.await_reason("tls_name");
    assert_eq!(event["name"], "other.example", "{event}");
    assert_eq!(event["tool"], "prober", "{event}");
    assert_eq!(event["outcome"], "deny", "{event}");
}

#[test]
fn a_real_handshake_of_rustls_passes_and_its_session_lives() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    let authority = scene.world.tls.authority().display().to_string();
    let script = |name: &str| {
        format!(
            "ask udp 8.8.8.8:53 site.example A; socket inet stream; connect 93.184.216.34:443; \
             tls {name} {authority}"
        )
    };
    for prober in [&mut bare, &mut fenced] {
        let answer = ask(prober, &script("site.example"));
        assert_eq!(
            answer.values.last().map(String::as_str),
            Some("hello from site.example")
        );
    }
    let control = ask(&mut bare, &script("other.example"));
    assert_eq!(
        control.values.last().map(String::as_str),
        Some("hello from other.example")
    );
    let before = scene.world.tls.bytes();
    assert!(!ask(&mut fenced, &script("other.example")).ok);
    assert_eq!(scene.world.tls.bytes(), before);
}

/// What a socket does after its first connection has shown an allowed name and was dissolved, and
/// whether it may: at the same address, at another of an allowed name, with the SYN, and as the other
/// family.
const AGAIN: &[(&str, bool)] = &[
    (
        "connect 93.184.216.34:8443; payload hello other.example; send",
        false,
    ),
    (
        "connect 93.184.216.34:8443; payload hello site.example; send",
        true,
    ),
    (
        "connect 93.184.216.40:8443; payload hello other.example; send",
        false,
    ),
    (
        "connect 93.184.216.40:8443; payload hello apart.example; send",
        true,
    ),
    (
        "payload hello other.example; sendto 93.184.216.34:8443 5 fastopen",
        false,
    ),
    (
        "connect 93.184.216.34:8443; payload hex 17030300050102030405; send",
        false,
    ),
];

#[test]
fn a_socket_connected_again_owes_its_name_again() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    resolve(&mut fenced);
    assert!(ask(&mut fenced, "ask udp 8.8.8.8:53 apart.example A").ok);
    let apart = SocketAddr::from(([93, 184, 216, 40], 8443));
    let all = || arrived(&scene) + scene.world.lab.servers().seen(apart).bytes;
    let bytes = |prober: &mut Prober, script: &str| {
        let before = all();
        let answer = ask(prober, script);
        (answer, all() - before)
    };
    let first = format!("{DIAL}; payload hello site.example; send; recv");
    let (_, once) = bytes(&mut bare, &first);
    for (again, may) in AGAIN {
        let script = format!("{first}; connect unspec; {again}; patience 1500; recv");
        let (control, both) = bytes(&mut bare, &script);
        assert!(control.ok && both > once, "control: {again}: {control:?}");
        let (answer, came) = bytes(&mut fenced, &script);
        assert_eq!(answer.ok, *may, "{again}: {answer:?}");
        assert!(answer.received > 0, "the first was well: {answer:?}");
        let expected = if *may { both } else { once };
        assert_eq!(came, expected, "{again}");
    }
}

#[test]
fn fast_open_carries_no_other_name() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    resolve(&mut fenced);
    let script = |name: &str| {
        format!(
            "socket inet stream; payload hello {name}; sendto 93.184.216.34:8443 5 fastopen; \
             patience 1500; recv"
        )
    };
    assert!(ask(&mut bare, &script("other.example")).ok, "control");
    let before = arrived(&scene);
    assert!(!ask(&mut fenced, &script("other.example")).ok);
    assert_eq!(arrived(&scene), before);
    assert!(ask(&mut fenced, &script("site.example")).ok);
}

#[test]
fn tls_off_opens_its_own_port_only() {
    let scene = Scene::new();
    let mut fenced = scene.prober();
    resolve(&mut fenced);
    let answer = ask(
        &mut fenced,
        "socket inet stream; connect 93.184.216.34:9000; send 5",
    );
    assert_eq!(answer.errno(), "EPERM", "not asked for yet: {answer:?}");
    let asked = ask(&mut fenced, "ask udp 8.8.8.8:53 third.example A");
    assert_eq!(asked.values, ["NOERROR", "93.184.216.34"]);
    let answer = ask(
        &mut fenced,
        "socket inet stream; connect 93.184.216.34:9000; send 5; recv",
    );
    assert!(answer.ok, "no name is owed here: {answer:?}");
    let answer = ask(&mut fenced, &format!("{DIAL}; send 5; patience 1500; recv"));
    assert_eq!(
        answer.received, 0,
        "the other port still owes one: {answer:?}"
    );
    for port in [80, 853, 9] {
        let script = format!("socket inet stream; connect 93.184.216.34:{port}; send 5");
        let answer = ask(&mut fenced, &script);
        assert_eq!(answer.errno(), "EPERM", "port {port}: {answer:?}");
    }
}

#[test]
fn a_rule_that_allows_ech_takes_it_for_its_name_only() {
    let scene = Scene::new();
    scene.world.names.set(
        "ech.example",
        lab::dns::Reply::addresses("ech.example", &[SHARED_V4.into()]),
    );
    let mut fenced = scene.prober();
    let asked = ask(&mut fenced, "ask udp 8.8.8.8:53 ech.example A");
    assert_eq!(asked.values, ["NOERROR", "93.184.216.34"], "{asked:?}");
    let hello = |words: &str| format!("{DIAL}; payload hello {words}; send; patience 1500; recv");
    assert!(ask(&mut fenced, &hello("ech.example ech")).ok);
    assert!(ask(&mut fenced, &hello("ech.example")).ok);
    assert!(!ask(&mut fenced, &hello("other.example ech")).ok);
    // `site.example` is on the same address and port; its rule wants to see the name.
    resolve(&mut fenced);
    assert!(!ask(&mut fenced, &hello("site.example ech")).ok);
}

#[test]
fn quic_is_refused_where_no_rule_names_udp() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    resolve(&mut fenced);
    for script in [
        "socket inet dgram; connect 93.184.216.34:443; send 1200; recv",
        "socket inet dgram; sendto 93.184.216.34:443 1200; recv",
    ] {
        assert!(ask(&mut bare, script).ok, "control: {script}");
        let answer = ask(&mut fenced, script);
        assert_eq!(answer.errno(), "EPERM", "{script}: {answer:?}");
    }
}
