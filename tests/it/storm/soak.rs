//! Hours of mixed load, or minutes of it: what the agent holds at the end is what it held when all of
//! its caches were warm.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use lab::{agent::METRICS, cgroup, metrics};

use super::{Scene, load::Load};
use crate::{counts, many};

/// Looks at the agent.
const LOOKS: u32 = 40;
/// Looks before the first that counts: pools and caches are full by then.
const WARM: usize = 10;
/// Looks at the end that are held against the first ones, as many as of these.
const COMPARED: usize = 10;
/// What the agent may take more, KiB: its threads have heaps of their own.
const AGENT_GROWTH_KIB_MAX: u64 = 6 * 1024;
/// And each other process.
const OTHER_GROWTH_KIB_MAX: u64 = 512;
/// Descriptors and cgroups that come and go with the sessions of a moment.
const MOMENT_MAX: u64 = 24;
/// Elements of a map that do.
const ELEMENTS_MAX: u64 = 96;

/// One session of so many may hear an answer too late.
const LATE_OF: u64 = 200;

/// What is held at one moment, by name.
type Held = BTreeMap<String, u64>;

#[test]
fn what_is_held_stays_flat() {
    let mut scene = Scene::new();
    let load = Load::new(&scene);
    let mut events = scene.agent.events().expect("events").stream();
    let mut looks = Vec::new();
    thread::scope(|scope| {
        let _guard = load.guard();
        scope.spawn(|| load.launch());
        scope.spawn(|| load.push_on(Duration::from_millis(500)));
        let steady = scene.steady();
        let began = Instant::now();
        let mut before = scene.arrived().total();
        for look in 1..=LOOKS {
            thread::sleep((began + counts::soak() * look / LOOKS) - Instant::now());
            looks.push(held(&scene));
            let after = scene.arrived().total();
            assert!(after > before, "the traffic has stopped at look {look}");
            before = after;
            while events.try_recv().is_ok() {}
        }
        drop(steady);
    });
    events = std::sync::mpsc::channel().1;
    drop(events);
    eprintln!(
        "{:?}: {} sessions, {} pushes",
        counts::soak(),
        load.launched.load(Ordering::Relaxed),
        load.pushed.load(Ordering::Relaxed)
    );
    let [cut, late, launched] =
        [&load.cut, &load.late, &load.launched].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(cut, late, "sessions have failed");
    // A question that a busy machine answers too late is no leak.
    assert!(late <= launched / LATE_OF, "{late} answers came too late");
    let (first, last) = (
        highest(&looks[WARM..WARM + COMPARED]),
        highest(&looks[looks.len() - COMPARED..]),
    );
    for (name, after) in &last {
        let before = first.get(name).copied().unwrap_or_default();
        eprintln!("{name}: {before} -> {after}");
        assert!(*after <= before + more(name), "{name}: {before} -> {after}");
    }
    scene.agent.stop().expect("the agent ends");
    assert_eq!(scene.journal()["open"], 0, "what has begun has ended");
    assert_eq!(
        scene.agent.end().expect("its traces go"),
        Vec::<String>::new()
    );
}

/// How much more of something may be held at the end.
fn more(name: &str) -> u64 {
    match name.split_once(' ') {
        Some(("KiB", "agent")) => AGENT_GROWTH_KIB_MAX,
        Some(("KiB", _)) => OTHER_GROWTH_KIB_MAX,
        Some(("map", _)) => ELEMENTS_MAX,
        _ => MOMENT_MAX,
    }
}

/// The most of each.
fn highest(looks: &[Held]) -> Held {
    let mut most = Held::new();
    for (name, value) in looks.iter().flatten() {
        let entry = most.entry(name.clone()).or_default();
        *entry = (*entry).max(*value);
    }
    most
}

fn held(scene: &Scene) -> Held {
    let root = scene.agent.id().expect("the agent runs");
    let mut held = Held::new();
    for (place, pid) in many::tree(root).into_iter().enumerate() {
        // Agent, launcher and a template for each policy; a new one after each push.
        let name = ["agent", "launcher"].get(place).copied();
        let name = name.unwrap_or("templates");
        let Some(kib) = many::memory_of(pid) else {
            continue;
        };
        let memory = held.entry(format!("KiB {name}")).or_default();
        *memory = (*memory).max(kib);
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        *held.entry(format!("descriptors {name}")).or_default() += open as u64;
        *held.entry("processes".to_owned()).or_default() += 1;
    }
    let instance = scene.agent.instance();
    for folders in [cgroup::sessions(instance), cgroup::vacant(instance)] {
        *held.entry("cgroups".to_owned()).or_default() += folders.map_or(0, |all| all.len()) as u64;
    }
    let text = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("metrics");
    for sample in metrics::parse(&text) {
        let name = match sample.name.as_str() {
            "stockade_map_entries" => format!("map {}", sample.labels),
            "stockade_dns_cache_entries" => "map of the resolver's answers".to_owned(),
            _ => continue,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        held.insert(name, sample.value as u64);
    }
    held
}
