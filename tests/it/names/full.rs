//! A session that holds as many grants as it may: it alone is refused, and it is said; what a push
//! takes away makes room.

use std::net::IpAddr;

use common::limits::GRANTS_PER_SESSION_MAX;
use lab::{
    agent::METRICS,
    dns::{self, Reply, zone},
    metrics::{self, Sample},
    prober::Prober,
};

use super::scene::{Scene, ask, egress};

/// Addresses of one name: as many as the resolver takes.
const ADDRESSES: u32 = 64;
const NAMES: u32 = GRANTS_PER_SESSION_MAX / ADDRESSES;
/// A code and the addresses.
const VALUES: usize = 1 + ADDRESSES as usize;
const WILDCARD: &str = "*.bench.example";

/// More names under wildcards than the default.
fn scene() -> Scene {
    let more = "wildcard_names_per_minute = 1000\nwildcard_bytes_per_minute = 100000\n";
    let scene = Scene::with(&egress(), &format!("{}{more}", dns::CONFIGURATION));
    for number in 0..NAMES + 2 {
        let all: Vec<_> = (0..ADDRESSES).map(|last| address(number, last)).collect();
        let name = name(number);
        scene.world.names.set(&name, Reply::addresses(&name, &all));
    }
    scene
}

fn name(number: u32) -> String {
    format!("g{number}.bench.example")
}

fn address(number: u32, last: u32) -> IpAddr {
    let [_, high, middle, low] = (number * ADDRESSES + last).to_be_bytes();
    IpAddr::from([52, 1 + high, middle, low])
}

fn resolve(prober: &mut Prober, name: &str) -> Vec<String> {
    ask(prober, &format!("ask udp 8.8.8.8:53 {name} A")).values
}

fn dial(prober: &mut Prober, address: IpAddr) -> String {
    let script = format!("socket inet stream; connect {address}:8443; send 5; recv");
    ask(prober, &script).errno().to_owned()
}

/// Takes every grant that a session may have.
fn fill(prober: &mut Prober) {
    for number in 0..NAMES {
        let values = resolve(prober, &name(number));
        assert_eq!(values.len(), VALUES, "{number}: {values:?}");
    }
}

fn samples(scene: &Scene) -> Vec<Sample> {
    let text = metrics::get(scene.world.lab.host(), METRICS, "/metrics");
    metrics::parse(&text.expect("metrics"))
}

#[test]
fn a_session_with_all_its_grants_is_refused_alone_and_it_is_told() {
    let scene = scene();
    let events = scene.events();
    let (mut greedy, mut modest) = (scene.prober(), scene.prober());
    fill(&mut greedy);
    let before = samples(&scene);
    assert_eq!(resolve(&mut greedy, &name(NAMES)), ["SERVFAIL"]);
    let event = events.await_reason("grants_full");
    assert_eq!(event["name"], name(NAMES), "{event}");
    assert_eq!(event["outcome"], "deny", "{event}");
    let after = samples(&scene);
    let grown = |metric: &str, labels: &[&str]| {
        metrics::sum(&after, metric, labels) - metrics::sum(&before, metric, labels)
    };
    let full = ["tool=\"prober\"", "result=\"grants_full\""];
    assert!((grown("stockade_dns_queries_total", &full) - 1.0).abs() < 0.1);
    assert!((grown("stockade_grants_refused_total", &[]) - f64::from(ADDRESSES)).abs() < 0.1);
    // What it has it keeps.
    assert_eq!(dial(&mut greedy, address(NAMES - 1, 9)), "");
    assert_eq!(resolve(&mut greedy, &name(0)).len(), VALUES);
    // Nobody else notices.
    for number in [NAMES, 0] {
        let values = resolve(&mut modest, &name(number));
        assert_eq!(values.len(), VALUES, "{values:?}");
        assert_eq!(dial(&mut modest, address(number, 3)), "");
    }
    scene.end();
}

#[test]
fn what_a_push_takes_away_makes_room() {
    let scene = scene();
    let mut worker = scene.prober();
    fill(&mut worker);
    assert_eq!(dial(&mut worker, address(0, 0)), "", "control");
    assert_eq!(resolve(&mut worker, "v4.example"), ["SERVFAIL"], "control");
    let without = egress().replace(WILDCARD, "*.elsewhere.example");
    scene.replace("prober", &without);
    assert_eq!(dial(&mut worker, address(0, 0)), "EPERM");
    assert_eq!(resolve(&mut worker, "v4.example").len(), 2);
    scene.replace("prober", &egress());
    let values = resolve(&mut worker, &name(0));
    assert_eq!(values.len(), VALUES, "{values:?}");
    for last in [0, ADDRESSES - 1] {
        let refused = dial(&mut worker, address(0, last));
        assert_eq!(refused, "", "an answer without its grant: {last}");
    }
    scene.end();
}

/// The grants of a dropped rule make room for those of others on the same address.
#[test]
fn a_rule_that_comes_back_opens_its_address_at_once() {
    let scene = Scene::new();
    let mut worker = scene.prober();
    // Two of these are more than one address holds.
    let rule = |name: &str| {
        format!(
            "[[egress.allow]]\ndomain = \"{name}\"\nports = [8443, 9000, 9010, 9020, 9030]\n\
             tls = \"off\"\n"
        )
    };
    let shared = IpAddr::from(zone::SHARED_V4);
    for name in ["site.example", "other.example", "site.example"] {
        scene.replace("prober", &rule(name));
        assert_eq!(dial(&mut worker, shared), "EPERM", "before {name} is asked");
        assert_eq!(resolve(&mut worker, name).len(), 2, "{name}");
        assert_eq!(dial(&mut worker, shared), "", "{name} without its grant");
    }
    scene.end();
}
