//! Answers that lie, lead astray or never come: none of them is a way in, none hurts.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use lab::dns::{Health, How, Over, Reply, zone};

use super::scene::{Scene, ask};

/// Longer than any client of a C library waits for one server.
const PATIENCE: Duration = Duration::from_millis(4_900);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What the fence answers for a name; the control shows that the world does answer.
fn asked(scene: &Scene, name: &str, record: &str) -> Vec<String> {
    let mut fenced = scene.prober();
    ask(&mut fenced, &format!("ask udp 8.8.8.8:53 {name} {record}")).values
}

#[test]
fn special_addresses_in_answers_are_dropped_and_open_nothing() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    for (name, record, dial) in [
        ("private.example", "A", "inet stream; connect 10.1.2.3:8443"),
        (
            "private.example",
            "AAAA",
            "inet6 stream; connect [fd00:1::5]:8443",
        ),
        (
            "metadata.example",
            "A",
            "inet stream; connect 169.254.169.254:8443",
        ),
        (
            "mapped.example",
            "AAAA",
            "inet6 stream; connect [::ffff:10.1.2.3]:8443",
        ),
        (
            "embedded.example",
            "AAAA",
            "inet6 stream; connect [64:ff9b::a9fe:a9fe]:8443",
        ),
        (
            "private-zone.example",
            "A",
            "inet stream; connect 10.0.0.7:8443",
        ),
        (
            "unspecified.example",
            "A",
            "inet stream; connect 0.0.0.0:8443",
        ),
        (
            "loopback.example",
            "A",
            "inet stream; connect 127.0.0.1:8443",
        ),
        (
            "this-host.example",
            "A",
            "inet stream; connect 45.33.32.2:8443",
        ),
    ] {
        let question = format!("ask udp 8.8.8.8:53 {name} {record}");
        let control = ask(&mut bare, &question);
        assert!(control.values.len() > 1, "control: {name}: {control:?}");
        let answer = ask(&mut fenced, &question);
        let addresses = answer.values.get(1..).unwrap_or_default();
        assert!(addresses.is_empty(), "{name} {record}: {answer:?}");
        let dialled = ask(&mut fenced, &format!("socket {dial}"));
        assert_eq!(dialled.errno(), "EPERM", "{name}: {dialled:?}");
    }
    for to in ["10.1.2.3", "10.0.0.7", "169.254.169.254", "192.168.1.1"] {
        let packets = scene.world.lab.arrived_at(address(to));
        assert_eq!(packets.expect("the recorder answers"), 0, "{to}");
    }
    scene.end();
}

#[test]
fn a_private_answer_is_told() {
    let scene = Scene::new();
    let events = scene.events();
    let mut fenced = scene.prober();
    ask(&mut fenced, "ask udp 8.8.8.8:53 private.example A");
    let event = events.await_reason("private_answer");
    assert_eq!(event["name"], "private.example", "{event}");
}

#[test]
fn of_a_mixed_answer_only_the_public_part_is_given() {
    let scene = Scene::new();
    let values = asked(&scene, "mixed.example", "A");
    assert_eq!(values, ["NOERROR", "93.184.216.45"]);
}

#[test]
fn a_door_of_the_policy_is_a_door_for_a_name_too() {
    let scene = Scene::new();
    let mut fenced = scene.prober();
    let answer = ask(&mut fenced, "ask udp 8.8.8.8:53 behind-door.example A");
    assert_eq!(answer.values, ["NOERROR", "10.20.0.5"]);
    let authority = scene.world.tls.authority().display().to_string();
    let script =
        format!("socket inet stream; connect 10.20.0.5:443; tls behind-door.example {authority}");
    let answer = ask(&mut fenced, &script);
    assert_eq!(
        answer.values.last().map(String::as_str),
        Some("hello from behind-door.example"),
        "{answer:?}"
    );
}

#[test]
fn a_name_that_rebinds_stays_outside() {
    let scene = Scene::new();
    let (mut fenced, mut bare) = (scene.prober(), scene.world.bare_prober());
    let question = "ask udp 8.8.8.8:53 rebind.example A";
    let (first, second) = (ask(&mut bare, question), ask(&mut bare, question));
    assert_ne!(first.values, second.values, "control: it rebinds");
    for _ in 0..6 {
        let answer = ask(&mut fenced, question);
        for value in answer.values.iter().skip(1) {
            assert_eq!(value, "93.184.216.46", "{answer:?}");
        }
        let dialled = ask(
            &mut fenced,
            "socket inet stream; connect 169.254.169.254:443",
        );
        assert_eq!(dialled.errno(), "EPERM", "{dialled:?}");
    }
    let packets = scene.world.lab.arrived_at(address("169.254.169.254"));
    assert_eq!(packets.expect("the recorder answers"), 0);
}

#[test]
fn hostile_answers_are_no_answers() {
    let scene = Scene::new();
    for name in [
        "wrong-id.example",
        "wrong-question.example",
        "pointer-loop.example",
        "lies.example",
        "cut-off.example",
        "loop.example",
        "long-chain.example",
        "foreign.example",
        "silent.example",
        "fails.example",
        "refuses.example",
    ] {
        let began = Instant::now();
        let values = asked(&scene, name, "A");
        let took = began.elapsed();
        assert!(took < PATIENCE, "{name} took {took:?}");
        let code = values.first().map_or("", String::as_str);
        assert!(
            matches!(code, "SERVFAIL" | "NXDOMAIN" | "NOERROR"),
            "{name}: {values:?}"
        );
        assert!(values.len() < 2, "{name}: {values:?}");
    }
    let mut fenced = scene.prober();
    for dial in [
        "93.184.216.47:443",
        "93.184.216.66:443",
        "93.184.216.34:443",
    ] {
        let dialled = ask(&mut fenced, &format!("socket inet stream; connect {dial}"));
        assert_eq!(dialled.errno(), "EPERM", "no grant: {dial}: {dialled:?}");
    }
    // The resolver is as well as before.
    assert_eq!(
        asked(&scene, "site.example", "A"),
        ["NOERROR", "93.184.216.34"]
    );
    scene.end();
}

#[test]
fn aliases_are_followed_and_judged_by_the_name_that_was_asked() {
    let scene = Scene::new();
    let mut fenced = scene.prober();
    let answer = ask(&mut fenced, "ask udp 8.8.8.8:53 chain.example A");
    assert_eq!(answer.values.first().map(String::as_str), Some("NOERROR"));
    assert!(
        answer.values.contains(&"93.184.216.34".to_owned()),
        "{answer:?}"
    );
    // The links have no rule: asked for by themselves they are refused.
    let link = ask(&mut fenced, "ask udp 8.8.8.8:53 link1.cdn.example A");
    assert!(link.values.len() < 2, "{link:?}");
    let authority = scene.world.tls.authority().display().to_string();
    let dialled = ask(
        &mut fenced,
        &format!("socket inet stream; connect 93.184.216.34:443; tls chain.example {authority}"),
    );
    assert!(dialled.ok, "{dialled:?}");
}

#[test]
fn answers_of_any_age_and_size_are_held_within_bounds() {
    let scene = Scene::new();
    let mut fenced = scene.prober();
    for (name, last) in [
        ("zero.example", 41),
        ("ages.example", 42),
        ("longest.example", 43),
    ] {
        let answer = ask(&mut fenced, &format!("ask udp 8.8.8.8:53 {name} A"));
        assert_eq!(
            answer.values,
            ["NOERROR".to_owned(), format!("93.184.216.{last}")]
        );
        let dialled = ask(
            &mut fenced,
            &format!("socket inet stream; connect 93.184.216.{last}:8443"),
        );
        assert!(dialled.ok, "{name}: {dialled:?}");
    }
    // Thousands of addresses: cut to what a datagram holds or a session may have, never a fault.
    let udp = ask(&mut fenced, "ask udp 8.8.8.8:53 huge.example A");
    assert!(udp.ok, "{udp:?}");
    let tcp = ask(&mut fenced, "ask tcp 8.8.8.8:53 huge.example A");
    assert!(tcp.ok, "{tcp:?}");
    for value in tcp.values.iter().skip(1).take(50) {
        let dialled = ask(
            &mut fenced,
            &format!("socket inet stream; connect {value}:8443"),
        );
        assert!(
            dialled.ok,
            "an answer without its grant: {value}: {dialled:?}"
        );
    }
    let over_tcp = scene
        .world
        .names
        .asked()
        .into_iter()
        .filter(|asked| asked.over == Over::Tcp)
        .count();
    assert!(
        over_tcp > 0,
        "a truncated answer is asked for again over TCP"
    );
    assert!(tcp.values.len() <= usize::from(zone::HUGE) + 1);
}

#[test]
fn upstream_down_and_back() {
    let scene = Scene::new();
    assert_eq!(
        asked(&scene, "site.example", "A"),
        ["NOERROR", "93.184.216.34"]
    );
    scene.world.names.set_health(Health::Dead);
    for name in ["apart.example", "v4.example"] {
        let began = Instant::now();
        let values = asked(&scene, name, "A");
        assert_eq!(values, ["SERVFAIL"], "{name}");
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }
    scene.world.names.set_health(Health::Well);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let values = asked(&scene, "apart.example", "A");
        if values == ["NOERROR", "93.184.216.40"] {
            break;
        }
        assert!(Instant::now() < until, "it does not recover: {values:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    scene
        .world
        .names
        .set_health(Health::Slow(Duration::from_millis(800)));
    assert_eq!(
        asked(&scene, "v6.example", "AAAA"),
        ["NOERROR", "2606:2800:220:1::34"]
    );
    scene.end();
}

#[test]
fn a_name_that_does_not_exist_does_not_exist() {
    let scene = Scene::new();
    assert_eq!(asked(&scene, "missing.example", "A"), ["NXDOMAIN"]);
    assert_eq!(asked(&scene, "v4.example", "AAAA"), ["NOERROR"]);
    let before = scene.world.names.asked().len();
    assert_eq!(asked(&scene, "missing.example", "A"), ["NXDOMAIN"]);
    assert_eq!(scene.world.names.asked().len(), before, "it is remembered");
    scene
        .world
        .names
        .set("missing.example", Reply::empty(How::NoName));
}
