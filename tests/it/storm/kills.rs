//! The agent killed at random moments of all that, also while it starts. After each: only what one set
//! allows gets out, a restart finds one set whole, the journal is whole, no session is lost unrecorded.

use std::{
    fs::File,
    process::Stdio,
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use lab::patience::scaled;

use super::{Arrived, OWN, STEADY, Scene, Steady, load::Load};
use crate::counts;

/// Longest time from a start, or a push, to the kill.
const MOMENT_MAX: Duration = Duration::from_millis(400);
/// Every so many kills, the agent that starts is killed as well, once or more.
const KILLED_STARTS: u32 = 3;
/// Longest time of a start that is killed.
const START_MAX: Duration = Duration::from_millis(1_500);
/// How long the traffic of a dead agent's sessions is looked at.
const LOOK: Duration = Duration::from_millis(80);
/// Until packets on their way have arrived.
const SETTLED: Duration = Duration::from_millis(20);

/// A part of a time; the moments need no better chance than the clock's last digits.
fn part_of(longest: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |since| u64::from(since.subsec_nanos()));
    let chance = nanos.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    Duration::from_nanos(chance % u64::try_from(longest.as_nanos()).expect("it is short"))
}

/// What was seen of all kills.
#[derive(Debug, Default)]
struct Seen {
    /// After how many of them each set was in force.
    in_force: [u32; 2],
    /// After how many the traffic of each set went on without an agent.
    went_on: [u32; 2],
    /// Kills of an agent that had not started yet.
    starts: u32,
}

#[test]
fn killed_at_random_moments_under_everything_at_once() {
    let mut scene = Scene::new();
    let load = Load::new(&scene);
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let _guard = load.guard();
        scope.spawn(|| load.launch());
        scope.spawn(|| load.launch());
        scope.spawn(|| load.push_on(Duration::from_millis(30)));
        for kill in 0..counts::kills() {
            let steady = scene.steady();
            wait_for_load(&load);
            thread::sleep(part_of(MOMENT_MAX));
            scene.agent.kill().expect("the agent is killed");
            alone(&scene, &mut seen);
            let _still = load.still.lock().unwrap_or_else(PoisonError::into_inner);
            if kill % KILLED_STARTS == 0 {
                kill_starts(&scene, &mut seen);
            }
            scene.agent.launch().expect("the agent starts again");
            ended(steady);
            again(&scene, &mut seen);
            scene.journal();
        }
    });
    eprintln!(
        "{} kills: {seen:?}; {} sessions, {} cut, {} pushes",
        counts::kills(),
        load.launched.load(Ordering::Relaxed),
        load.cut.load(Ordering::Relaxed),
        load.pushed.load(Ordering::Relaxed),
    );
    let quarter = counts::kills() / 4;
    let went_on: u32 = seen.went_on.iter().sum();
    assert!(went_on >= quarter, "control: no traffic without an agent");
    assert!(seen.in_force.iter().all(|times| *times > 0), "{seen:?}");
    let launched = load.launched.load(Ordering::Relaxed);
    assert!(launched >= u64::from(counts::kills()), "hardly a session");
    scene.agent.stop().expect("the agent ends");
    assert_eq!(scene.journal()["open"], 0, "what has begun has ended");
    assert_eq!(
        scene.agent.end().expect("its traces go"),
        Vec::<String>::new()
    );
}

/// Until a session and a push have come through since the last kill.
fn wait_for_load(load: &Load) {
    let counted = || [&load.launched, &load.pushed].map(|count| count.load(Ordering::Relaxed));
    let (before, began) = (counted(), Instant::now());
    let done = || {
        let now = counted();
        now.iter().zip(before).all(|(now, before)| *now > before)
    };
    while !done() {
        assert!(
            began.elapsed() < scaled(Duration::from_mins(1)),
            "the load has stopped: {before:?}, now {:?}",
            counted()
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Without an agent: what is in force is one set, whichever, and stays that.
fn alone(scene: &Scene, seen: &mut Seen) {
    thread::sleep(SETTLED);
    let before = scene.arrived();
    thread::sleep(LOOK);
    let moved = moved(before, scene.arrived());
    assert_ne!(moved, [true; 2], "two sets at once without an agent");
    for (count, moved) in seen.went_on.iter_mut().zip(moved) {
        *count += u32::from(moved);
    }
}

fn moved(before: Arrived, after: Arrived) -> [bool; 2] {
    [0, 1].map(|place| after.0[place] > before.0[place])
}

/// Agents that are killed while they start.
fn kill_starts(scene: &Scene, seen: &mut Seen) {
    let mut command = scene.agent.agent_command().expect("the binary is built");
    let log = scene.agent.scratch().path().join("killed.log");
    command
        .stdout(Stdio::null())
        .stderr(File::create(log).expect("a file"));
    let child = scene.lab.host().enter(|| command.spawn());
    let mut child = child.expect("the namespace").expect("the binary runs");
    thread::sleep(part_of(START_MAX));
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    seen.starts += 1;
}

/// The dead agent's session is gone, with everything in its cgroup, and was told of.
fn ended(steady: Steady) {
    let Steady {
        mut worker, cgroup, ..
    } = steady;
    assert!(
        worker.ask("sleep 1").is_err(),
        "a worker outlives its agent"
    );
    let left = lab::cgroup::processes(&cgroup).unwrap_or_default();
    assert_eq!(left, Vec::<u32>::new(), "in {}", cgroup.display());
}

/// With the agent that has started: one set is in force, and not a packet that it lacks arrives.
fn again(scene: &Scene, seen: &mut Seen) {
    let place = scene.in_force();
    seen.in_force[place] += 1;
    thread::sleep(SETTLED);
    let before = scene.arrived();
    let mut worker = scene.worker(STEADY);
    for (own, address) in OWN.iter().enumerate() {
        let script = format!("socket inet dgram; sendto {address}:9000 5; recv");
        let answer = worker.ask(&script).expect("the worker answers");
        if own == place {
            assert!(answer.ok, "the set in force allows it: {answer:?}");
        } else {
            assert_eq!(answer.errno(), "EPERM", "{address}");
        }
    }
    let moved = moved(before, scene.arrived());
    assert_eq!(moved, [place == 0, place == 1], "set {place} is in force");
}
