//! A hostile worker that asks with all it has, and another tool's worker that has work to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use lab::{
    agent::METRICS,
    dns,
    metrics::{self, Sample},
    patience::scaled,
    prober::{Answer, Prober},
};

use serde_json::Value;

use super::scene::{Scene, ask, egress, policy};

/// How long it lasts.
const FLOOD: Duration = Duration::from_secs(4);
/// The longest that a question and a dial may take meanwhile, on a machine with other work: less than
/// half of what clients wait before they ask again (resolv.conf(5), `timeout`).
const BOUND: Duration = Duration::from_secs(2);
/// After so long a session may ask again as if it had not flooded.
const WINDOW: Duration = Duration::from_secs(4);
/// Of a session, in a second: by the kernel's hooks and by the resolver.
const EVENTS_PER_SECOND: u64 = 500 + 100;
/// Connections of a session to the resolver.
const CONNECTIONS: u64 = 16;
/// Names below wildcards in a minute, and another minute may begin.
const NAMES: usize = 2 * 120;
const MEMORY_KIB: u64 = 24 * 1024;
const DIAL: &str = "socket inet stream; connect 93.184.216.34:8443";
const SERVER: &str = "8.8.8.8:53";

fn flood(time: Duration) -> String {
    format!(
        "flood {SERVER} wild.example strange.example {}",
        time.as_millis()
    )
}

fn memory_kib(scene: &Scene) -> u64 {
    let id = scene.agent.id().expect("an agent");
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse().ok()).expect("a number")
}

fn samples(scene: &Scene) -> Vec<Sample> {
    let text = metrics::get(scene.world.lab.host(), METRICS, "/metrics");
    metrics::parse(&text.expect("metrics"))
}

/// Work of a worker that does no harm: asks, by turns over each protocol, and dials what it was told.
/// How long the slowest took, and how many there were.
fn work(scene: &Scene, until: Instant) -> (Duration, u32) {
    let mut command = scene.agent.tool("quiet", &[]).expect("the binary is built");
    let mut worker =
        Prober::start(scene.world.lab.host(), &mut command).expect("the worker starts");
    let (mut slowest, mut times) = (Duration::ZERO, 0);
    while Instant::now() < until {
        let name = ["site.example", "third.example"][times as usize % 2];
        let way = if times % 5 == 4 { "tcp" } else { "udp" };
        let began = Instant::now();
        let script = format!("ask {way} {SERVER} {name} A");
        let answer = ask(&mut worker, &script);
        let took = began.elapsed();
        assert!(
            answer.ok,
            "{script}, the {times}th, after {took:?}: {answer:?}"
        );
        assert_eq!(answer.values[0], "NOERROR", "{script}: {answer:?}");
        if times % 2 == 0 {
            let answer = ask(&mut worker, DIAL);
            assert!(answer.ok, "{DIAL}, the {times}th: {answer:?}");
        }
        slowest = slowest.max(took);
        times += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    (slowest, times)
}

/// What has grown between two readings.
struct Growth {
    before: Vec<Sample>,
    after: Vec<Sample>,
}

impl Growth {
    fn of(&self, metric: &str, labels: &[&str]) -> f64 {
        metrics::sum(&self.after, metric, labels) - metrics::sum(&self.before, metric, labels)
    }
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.5
}

/// What the agent asked the server that it is told to ask; the control asks another one.
fn left_the_host(scene: &Scene) -> BTreeSet<String> {
    let asked = scene.world.names.asked().into_iter();
    let upstream = asked.filter(|asked| dns::UPSTREAM.starts_with(&asked.server.to_string()));
    upstream.map(|asked| asked.name).collect()
}

/// Every limit was met, and each refusal counted.
fn check_counts(growth: &Growth, flood: &Answer, times: u32) {
    let denied = growth.of(
        "stockade_verdicts_total",
        &[
            "tool=\"prober\"",
            "reason=\"query_limit\"",
            "hook=\"egress\"",
        ],
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of some seconds")]
    let refused = flood.refused as f64;
    assert!(
        refused > 1_000.0 && is_close(denied, refused),
        "{denied} of {refused}"
    );
    let queries = "stockade_dns_queries_total";
    for result in ["limited", "refused", "malformed"] {
        let result = format!("result=\"{result}\"");
        let counted = growth.of(queries, &["tool=\"prober\"", &result]);
        assert!(counted > 0.5, "{result}");
    }
    let quiet = growth.of(queries, &["tool=\"quiet\"", "result=\"answered\""]);
    assert!(is_close(quiet, f64::from(times)), "{quiet} of {times}");
    let suppressed = growth.of("stockade_events_suppressed_total", &[])
        + growth.of("stockade_dns_events_suppressed_total", &[]);
    assert!(suppressed > 0.5, "what is not told is counted");
}

/// The events of so many seconds: bounded, and of each kind.
fn check_events(stream: &Receiver<Value>, seconds: u64) {
    let mut events = BTreeMap::<String, u64>::new();
    while let Ok(event) = stream.recv_timeout(Duration::from_millis(300)) {
        let reason = event["reason"].as_str().unwrap_or_default().to_owned();
        let tool = event["tool"].as_str().unwrap_or_default();
        *events.entry(format!("{tool} {reason}")).or_default() += 1;
    }
    let all: u64 = events.values().sum();
    assert!(all < EVENTS_PER_SECOND * seconds, "{events:?}");
    for reason in ["query_limit", "name_not_allowed", "query_malformed"] {
        let kind = format!("prober {reason}");
        assert!(events.contains_key(&kind), "{reason}: {events:?}");
    }
}

#[test]
fn a_flood_of_hostile_questions_is_its_own_sender_s_trouble() {
    let scene = Scene::new();
    let quiet = policy("prober", &egress()).replace("tool = \"prober\"", "tool = \"quiet\"");
    scene.put("quiet", &quiet);
    // The control: without a fence all of it leaves.
    let mut bare = scene.world.bare_prober();
    let control = ask(&mut bare, &flood(Duration::from_millis(500)));
    assert_eq!((control.ok, control.refused), (true, 0), "{control:?}");
    let asked = scene.world.names.asked().len();
    assert!(asked > 500, "control: {asked} questions came");
    assert_eq!(left_the_host(&scene), BTreeSet::new(), "control");

    let mut hostile = scene.prober();
    assert!(ask(&mut hostile, &format!("ask udp {SERVER} site.example A")).ok);
    work(&scene, Instant::now() + Duration::from_millis(500));
    let stream = scene.agent.events().expect("events").stream();
    std::thread::sleep(Duration::from_millis(300));
    let (memory, before) = (memory_kib(&scene), samples(&scene));
    let began = Instant::now();
    hostile.say(&flood(FLOOD)).expect("it is told");
    let (slowest, times) = work(&scene, began + FLOOD);
    let answer = hostile.hear().expect("the flood ends");
    let seconds = began.elapsed().as_secs() + 2;
    let grown = memory_kib(&scene).saturating_sub(memory);
    let after = samples(&scene);
    let growth = Growth { before, after };
    println!(
        "{times} questions beside {} writes, {} of them refused; the slowest took {slowest:?}; \
         the agent grew by {grown} KiB",
        answer.calls, answer.refused
    );
    assert!(slowest < scaled(BOUND), "{slowest:?}");
    assert!(answer.ok, "{answer:?}");
    assert!(grown < MEMORY_KIB, "{grown} KiB");

    check_counts(&growth, &answer, times);
    let held: u64 = answer.values[1].parse().expect("a number");
    assert!(held <= CONNECTIONS, "{held} connections");
    let left = left_the_host(&scene);
    let below = |name: &&String| name.ends_with(".wild.example");
    let labels = left.iter().filter(below).count();
    assert!((1..=NAMES).contains(&labels), "{labels} names left");
    let nobodys = |name: &&String| name.ends_with("strange.example") || name.starts_with("abc");
    assert_eq!(left.iter().find(nobodys), None);

    check_events(&stream, seconds);
    // What it may ask it may ask again.
    std::thread::sleep(WINDOW);
    for way in ["udp", "tcp"] {
        let answer = ask(&mut hostile, &format!("ask {way} {SERVER} site.example A"));
        assert_eq!(answer.values, ["NOERROR", "93.184.216.34"], "{answer:?}");
    }
    assert!(ask(&mut hostile, DIAL).ok);
    drop(hostile);
    scene.end();
}
