//! The name servers that the agent asks: over TLS, late, gone; and what `doctor` says of them.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use lab::{
    agent::METRICS,
    binary::{self, Scratch},
    dns::{self, Health, Over, Reply},
    metrics,
};
use serde_json::Value;

use super::scene::{RESOLVER, RESOLVER_TLS_PORT, Scene, World, ask, egress};

/// Longer than any client of a C library waits for one server.
const PATIENCE: Duration = Duration::from_millis(4_900);
/// When no question waits for an answer any more.
const TOO_LATE: Duration = Duration::from_secs(6);
/// The authority of the lab.
const ROOTS: &str = "tls_roots = \"{scratch}/world.crt\"\n";
const FAILED: &str = "no answer from upstream servers";
const ASK: &str = "ask udp 8.8.8.8:53 apart.example A";

/// `[dns]` with the lab's name server over TLS under this name.
fn over_tls(name: &str, roots: &str) -> String {
    format!("[dns]\nupstreams = [\"9.9.9.9:{RESOLVER_TLS_PORT}\"]\ntls = \"{name}\"\n{roots}")
}

fn packets(world: &World, port: u16) -> u64 {
    let server = SocketAddr::from(([9, 9, 9, 9], port));
    let packets = world.lab.arrived_at_port(server);
    packets.expect("the recorder answers")
}

#[test]
fn over_tls_names_resolve_and_nothing_goes_in_the_clear() {
    let scene = Scene::with(&egress(), &over_tls(RESOLVER, ROOTS));
    let mut worker = scene.prober();
    for (name, address) in [
        ("site.example", "93.184.216.34"),
        ("apart.example", "93.184.216.40"),
    ] {
        let answer = ask(&mut worker, &format!("ask udp 8.8.8.8:53 {name} A"));
        assert_eq!(answer.values, ["NOERROR", address], "{}", scene.agent.log());
        let dial = format!("socket inet stream; connect {address}:8443");
        assert!(ask(&mut worker, &dial).ok, "{name}");
    }
    let asked = scene.world.names.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for asked in asked {
        assert_eq!(asked.over, Over::Tls, "{asked:?}");
    }
    assert!(packets(&scene.world, RESOLVER_TLS_PORT) > 0, "control");
    assert_eq!(packets(&scene.world, 53), 0);
    scene.end();
}

#[test]
fn a_server_that_is_not_who_it_should_be_is_asked_nothing_and_the_log_says_why() {
    for (configuration, why) in [
        (
            over_tls("somebody.else.example", ROOTS),
            "not valid for name",
        ),
        // The authorities of this host.
        (over_tls(RESOLVER, ""), "UnknownIssuer"),
    ] {
        let scene = Scene::with(&egress(), &configuration);
        let mut worker = scene.prober();
        let began = Instant::now();
        let answer = ask(&mut worker, ASK);
        assert_eq!(answer.values, ["SERVFAIL"], "{why}");
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        assert_eq!(scene.world.names.asked(), [], "{why}");
        assert_eq!(packets(&scene.world, 53), 0, "{why}");
        let log = scene.agent.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains(FAILED)).collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told[0].contains(why), "{told:?}");
        assert!(told[0].contains("apart.example"), "{told:?}");
        let text = metrics::get(scene.world.lab.host(), METRICS, "/metrics").expect("metrics");
        let samples = metrics::parse(&text);
        let failures = metrics::sum(&samples, "stockade_dns_upstream_failures_total", &[]);
        assert!((failures - 1.0).abs() < 0.1, "{text}");
    }
}

#[test]
fn an_answer_that_comes_too_late_is_none_and_the_next_is_taken() {
    let scene = Scene::new();
    let mut worker = scene.prober();
    let reply = |last| {
        let address = IpAddr::from([93, 184, 216, last]);
        Reply::addresses("apart.example", &[address])
    };
    let names = &scene.world.names;
    let began = Instant::now();
    names.set("apart.example", reply(47).late(TOO_LATE));
    assert_eq!(ask(&mut worker, ASK).values, ["SERVFAIL"]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    names.set("apart.example", reply(40));
    let answer = ask(&mut worker, ASK);
    assert_eq!(answer.values, ["NOERROR", "93.184.216.40"], "at once");
    // The last late answer is sent by then.
    std::thread::sleep((PATIENCE + TOO_LATE).saturating_sub(began.elapsed()));
    assert_eq!(ask(&mut worker, ASK).values, answer.values);
    let late = "socket inet stream; connect 93.184.216.47:8443";
    assert_eq!(ask(&mut worker, late).errno(), "EPERM", "nothing opened it");
    let log = scene.agent.log();
    assert!(log.contains(FAILED), "{log}");
    assert!(log.contains("upstream servers answer again"), "{log}");
    scene.end();
}

/// The row of this name that `doctor` prints, run on the host of a lab.
fn row(world: &World, scratch: &Scratch, configuration: &str, name: &str) -> (String, String) {
    let folder = scratch.path().display().to_string();
    let configuration = configuration.replace("{scratch}", &folder);
    let file = scratch.write("doctor.toml", &configuration);
    let mut command = Command::new(binary::stockade().expect("the binary is built"));
    command
        .args(["doctor", "--json", "--config"])
        .arg(file.expect("it is written"));
    let output = world.lab.host().enter(|| command.output());
    let output = output.expect("the namespace").expect("it starts");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let row = rows.iter().find(|row| row["name"] == name);
    let row = row.unwrap_or_else(|| panic!("no row `{name}`: {rows:#?}"));
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let state = text("state");
    assert_eq!(row["fix"].is_null(), state == "ok", "{row}");
    (state, text("detail"))
}

#[test]
fn doctor_tells_which_name_servers_answer() {
    const UPSTREAMS: &str = "resolver upstreams";
    let scratch = Scratch::new().expect("a folder");
    let world = World::new(&scratch);
    let ask = |configuration: &str| row(&world, &scratch, configuration, UPSTREAMS);
    let (state, detail) = ask(dns::CONFIGURATION);
    assert_eq!(state, "ok", "{detail}");
    assert!(detail.starts_with("9.9.9.9:53 answers in "), "{detail}");
    let (state, detail) = ask("[dns]\nupstreams = [\"9.9.9.9\", \"127.0.0.1\"]\n");
    assert_eq!(state, "weaker", "{detail}");
    assert!(detail.contains("9.9.9.9:53 answers in "), "{detail}");
    assert!(detail.contains("127.0.0.1:53: "), "{detail}");
    let (state, detail) = ask(&over_tls(RESOLVER, ROOTS));
    assert_eq!(state, "ok", "{detail}");
    assert!(detail.contains("over TLS, as dns.example"), "{detail}");
    let (state, detail) = ask(&over_tls("somebody.else.example", ROOTS));
    assert_eq!(state, "weaker", "{detail}");
    assert!(detail.contains("not valid for name"), "{detail}");
    world.names.set_health(Health::Dead);
    let (state, detail) = ask(dns::CONFIGURATION);
    assert_eq!(state, "weaker", "{detail}");
    assert!(detail.starts_with("9.9.9.9:53: "), "{detail}");
    // Nothing but the name of the root was ever asked for.
    for asked in world.names.asked() {
        assert_eq!(asked.name, "", "{asked:?}");
    }
}

#[test]
fn doctor_looks_at_the_port_and_the_authorities() {
    let scratch = Scratch::new().expect("a folder");
    let world = World::new(&scratch);
    let configuration = format!("{}port = 1000\n", dns::CONFIGURATION);
    let port = || row(&world, &scratch, &configuration, "resolver port");
    assert_eq!(port(), ("ok".into(), "1000 of loopback is free".into()));
    let held = world.lab.host().enter(|| UdpSocket::bind("127.0.0.1:1000"));
    let held = held.expect("the namespace").expect("the port is free");
    let (state, detail) = port();
    assert_eq!(state, "weaker", "{detail}");
    assert!(detail.contains("127.0.0.1:1000"), "{detail}");
    drop(held);
    let authorities = |roots: &str| {
        let configuration = over_tls(RESOLVER, roots);
        row(&world, &scratch, &configuration, "resolver authorities")
    };
    assert_eq!(authorities(ROOTS).0, "ok");
    let (state, detail) = authorities("tls_roots = \"{scratch}/none.crt\"\n");
    assert_eq!(state, "missing", "{detail}");
    assert!(detail.contains("none.crt"), "{detail}");
}
