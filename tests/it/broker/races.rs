//! A thousand at once: of one proof, of one idempotency key, for the last place of a day.

use std::{collections::BTreeMap, sync::atomic::AtomicU32, sync::atomic::Ordering, thread};

use serde_json::{Value, json};

use super::{
    Scene,
    caller::{Answer, Caller, body},
};

const CALLS: u32 = 1_000;
/// Connections at once.
const THREADS: u32 = 32;

const POLICY: &str = r#"
version = 1
tool = "dice"
description = "Says a number that it never says again"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/dice.py"]
protocol = "json"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"

[[verb]]
name = "free"
description = "Without a key"
scope = "dice:throw"
arguments = "{scratch}/schemas/in.json"
result = "{scratch}/schemas/out.json"
[verb.limits]
rate = "100000/min per user"
concurrency = 64
repeats = 100000

[[verb]]
name = "daily"
description = "Once a day"
scope = "dice:throw"
arguments = "{scratch}/schemas/in.json"
result = "{scratch}/schemas/out.json"
[verb.limits]
rate = "100000/min per user"
per_day = ["1 per user"]
concurrency = 64
"#;
const WORKER: &str = r#"
import json, os, sys
json.load(sys.stdin)
json.dump({"result": {"number": int.from_bytes(os.urandom(6), "big")}}, sys.stdout)
"#;
const IN: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {"n": {"type": "integer", "minimum": 0, "maximum": 1000000}}, "additionalProperties": false}"#;
const OUT: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {"number": {"type": "integer", "minimum": 0, "maximum": 281474976710656}},
"required": ["number"], "additionalProperties": false}"#;

fn scene() -> Scene {
    Scene::new(
        &[("dice", POLICY)],
        &[("dice.py", WORKER)],
        &[("in.json", IN), ("out.json", OUT)],
    )
}

/// Every call's answer, made by many threads at once.
fn all_at_once(call: impl Fn(u32) -> Answer + Sync) -> Vec<Answer> {
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= CALLS {
                            return answers;
                        }
                        answers.push(call(number));
                    }
                })
            })
            .collect();
        let answers = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        answers.flatten().collect()
    })
}

/// How often each came: `done`, `replayed` or a reason.
fn tally(answers: &[Answer]) -> BTreeMap<String, u32> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        let word = match (answer.reason(), &answer.body["replayed"]) {
            ("", Value::Bool(true)) => "replayed",
            ("", _) => "done",
            (reason, _) => reason,
        };
        *tally.entry(word.to_owned()).or_default() += 1;
    }
    tally
}

fn of(tally: &BTreeMap<String, u32>, word: &str) -> u32 {
    tally.get(word).copied().unwrap_or(0)
}

fn caller(scene: &Scene) -> Caller {
    scene.caller("alice", &["dice:throw"])
}

#[test]
fn one_proof_is_good_for_one_call_of_a_thousand() {
    let scene = scene();
    let alice = caller(&scene);
    let body = body("dice", "free", json!({"n": 1}), None);
    let proof = alice.proof(&body);
    let tally = tally(&all_at_once(|_| alice.send(&body, &proof)));
    assert_eq!(of(&tally, "done"), 1, "{tally:?}\n{}", scene.agent.log());
    assert_eq!(of(&tally, "proof_replayed"), CALLS - 1, "{tally:?}");
    scene.end();
}

#[test]
fn one_idempotency_key_runs_one_worker_of_a_thousand() {
    let scene = scene();
    let alice = caller(&scene);
    let answers = all_at_once(|_| alice.call_once("dice", "free", json!({"n": 1}), Some("key-1")));
    let tally = tally(&answers);
    assert_eq!(of(&tally, "done"), 1, "{tally:?}\n{}", scene.agent.log());
    let others = of(&tally, "replayed")
        + of(&tally, "idempotency_running")
        + of(&tally, "concurrency_limited");
    assert_eq!(others, CALLS - 1, "{tally:?}");
    let numbers: Vec<_> = answers
        .iter()
        .filter(|answer| answer.is_done())
        .map(|answer| answer.structured()["number"].clone())
        .collect();
    assert!(numbers.iter().all(|number| *number == numbers[0]));
    // A crash does not make it run again either.
    let mut scene = scene;
    scene.agent.kill().expect("it dies");
    scene.agent.launch().expect("it starts again");
    let alice = caller(&scene);
    let again = alice.call_once("dice", "free", json!({"n": 1}), Some("key-1"));
    assert_eq!(again.body["replayed"], true, "{again:?}");
    assert_eq!(again.structured()["number"], numbers[0]);
    scene.end();
}

#[test]
fn the_last_place_of_a_day_goes_to_one_of_a_thousand() {
    let scene = scene();
    let alice = caller(&scene);
    let answers = all_at_once(|n| alice.call("dice", "daily", json!({"n": n})));
    let tally = tally(&answers);
    assert_eq!(of(&tally, "done"), 1, "{tally:?}\n{}", scene.agent.log());
    assert_eq!(of(&tally, "quota_spent"), CALLS - 1, "{tally:?}");
    let mut scene = scene;
    scene.agent.kill().expect("it dies");
    scene.agent.launch().expect("it starts again");
    let later = caller(&scene).call("dice", "daily", json!({"n": 1}));
    assert_eq!(later.reason(), "quota_spent", "a restart gives none back");
    scene.end();
}
