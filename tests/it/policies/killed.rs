//! The agent killed at random instants while sets are pushed back and forth: afterwards one of them is
//! in force, wholly, and the folder holds just that one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Scene, names, prober};
use crate::counts;

const TOOLS: usize = 6;
const RULES: usize = 40;

/// A number below a bound; the moments need no better chance than the clock's last digits.
fn below(bound: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |since| u64::from(since.subsec_nanos()));
    nanos.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) % bound
}

/// The files of a set: every file but the prober's differs between the two, and each has one more that
/// the other lacks.
fn files(last: usize) -> BTreeMap<String, String> {
    let policy = |tool: &str, high: usize| {
        let rules = (0..RULES).map(|n| {
            format!("[[egress.allow]]\ncidr = \"20.{high}.{n}.{last}/32\"\nports = [443]\n")
        });
        let rules: String = rules.collect();
        format!("version = 1\ntool = \"{tool}\"\n{rules}")
    };
    let mut files: BTreeMap<String, String> = (0..TOOLS)
        .map(|n| (format!("tool-{n}.toml"), policy(&format!("tool-{n}"), n)))
        .collect();
    let own = format!("only-{last}");
    files.insert(format!("{own}.toml"), policy(&own, 99));
    files
}

/// Whether a folder holds a set, to the byte, and nothing else.
fn holds(folder: &Path, set: &BTreeMap<String, String>) -> bool {
    let same = |name: &String| {
        let text = fs::read_to_string(folder.join(name));
        text.is_ok_and(|text| Some(&text) == set.get(name))
    };
    let names = names(folder);
    names.len() == set.len() && names.iter().all(same)
}

#[test]
fn one_set_wholly_whenever_the_agent_is_killed() {
    let mut scene = Scene::new(None);
    let place = scene.agent.scratch().path().display().to_string();
    let sets = [1, 2].map(|last| {
        let mut set = files(last);
        set.insert(
            "prober.toml".to_owned(),
            prober().replace("{scratch}", &place),
        );
        set
    });
    let folders = [1, 2].map(|last| scene.agent.scratch().path().join(format!("set-{last}")));
    let mut digests = Vec::new();
    for (folder, set) in folders.iter().zip(&sets) {
        fs::create_dir(folder).expect("a folder");
        for (name, text) in set {
            fs::write(folder.join(name), text).expect("it is written");
        }
        let folder = folder.display().to_string();
        scene.done(&["push", "--replace", &folder]);
        digests.push(scene.digest());
    }
    let (over, pushed) = (AtomicBool::new(false), AtomicU32::new(0));
    let instance = scene.agent.instance().to_owned();
    let keep_on = || push_until(&over, &pushed, &folders, &instance);
    let mut seen = [0_u32; 2];
    std::thread::scope(|scope| {
        let thread = scope.spawn(keep_on);
        for kill in 0..counts::push_kills() {
            let before = pushed.load(Ordering::Relaxed);
            let began = Instant::now();
            while pushed.load(Ordering::Relaxed) == before
                && began.elapsed() < Duration::from_secs(10)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(below(300_000)));
            scene.agent.kill().expect("the agent is killed");
            scene.agent.launch().expect("the agent starts again");
            seen[whole(&scene, &digests, &sets, kill)] += 1;
        }
        over.store(true, Ordering::Relaxed);
        thread.join().expect("no panic");
    });
    assert!(
        pushed.load(Ordering::Relaxed) >= counts::push_kills() / 2,
        "hardly any push"
    );
    eprintln!(
        "{} pushes, {seen:?} after a kill",
        pushed.load(Ordering::Relaxed)
    );
    let last = whole(&scene, &digests, &sets, u32::MAX);
    assert!(
        holds(&scene.agent.policies(), &sets[last]),
        "{:?}",
        scene.names()
    );
    scene.journal_is_whole();
}

/// Pushes the sets in turn until it is over, and counts what succeeded.
fn push_until(over: &AtomicBool, pushed: &AtomicU32, folders: &[PathBuf], instance: &str) {
    let binary = lab::binary::stockade().expect("it is built");
    for folder in folders.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let mut command = Command::new(&binary);
        command.args(["policy", "push", "--replace", "--instance", instance]);
        command
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Refused whenever there is no agent.
        if command.status().is_ok_and(|status| status.success()) {
            pushed.fetch_add(1, Ordering::Relaxed);
        } else {
            // The agent that starts needs the processors more.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Which of the sets is in force; all of it.
fn whole(scene: &Scene, digests: &[String], sets: &[BTreeMap<String, String>], kill: u32) -> usize {
    let status: Value = scene.status();
    assert!(status["policy_error"].is_null(), "kill {kill}: {status}");
    let digest = super::digest(&status);
    let which = digests.iter().position(|other| *other == digest);
    let which = which.unwrap_or_else(|| panic!("kill {kill}: neither set: {status}"));
    let tools = status["policies"].as_array().map_or(0, Vec::len);
    assert_eq!(tools, sets[which].len(), "kill {kill}: {status}");
    which
}
