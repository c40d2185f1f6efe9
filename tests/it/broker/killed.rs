//! The agent is killed while a thousand want one and the same thing: of a proof, of an idempotency key,
//! of the places of a day. Before and after, what ran is counted by the worker itself, in a folder that
//! outlives every agent.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lab::agent;
use serde_json::{Value, json};

use super::{
    Scene,
    caller::{Caller, body},
};

const CALLS: u32 = 1_000;
/// Connections at once.
const THREADS: u32 = 32;
/// Calls of a day.
const PLACES: usize = 40;

const POLICY: &str = r#"
version = 1
tool = "mark"
description = "Leaves a mark of each run"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/mark.py", "{scratch}/marks"]
protocol = "json"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
write = ["{scratch}/marks"]
[syscalls]
profile = "interpreter"

[[verb]]
name = "once"
description = "With a key"
scope = "mark:make"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
rate = "100000/min per user"
concurrency = 64
repeats = 100000

[[verb]]
name = "daily"
description = "So often a day"
scope = "mark:make"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
rate = "100000/min per user"
per_day = ["40 per user"]
concurrency = 64
repeats = 100000
"#;
/// A mark is there before the answer; a file's name is its number, which nobody else draws.
const WORKER: &str = r#"
import json, os, sys, time
number = int.from_bytes(os.urandom(6), "big")
json.load(sys.stdin)
with open(f"{sys.argv[1]}/{number}", "w"): pass
time.sleep(0.05)
json.dump({"result": {"number": number}}, sys.stdout)
"#;
const IN: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {"n": {"type": "integer", "minimum": 0, "maximum": 1000000}}, "additionalProperties": false}"#;

struct Marked {
    scene: Scene,
}

impl Marked {
    fn new() -> Self {
        let scene = Scene::prepared(
            &[("mark", POLICY)],
            &[("mark.py", WORKER)],
            &[("in.json", IN)],
            |scratch| {
                let marks = scratch.join("marks");
                fs::create_dir(&marks).expect("a folder");
                let mode = fs::Permissions::from_mode(0o777);
                fs::set_permissions(marks, mode).expect("its mode");
            },
        );
        Self { scene }
    }

    fn caller(&self) -> Caller {
        self.scene.caller("alice", &["mark:make"])
    }

    /// How often a worker ran, whoever was told of it.
    fn runs(&self) -> usize {
        let marks = self.scene.agent.scratch().path().join("marks");
        fs::read_dir(marks).expect("the marks").count()
    }

    fn socket(&self) -> PathBuf {
        let folder = PathBuf::from("/run").join(self.scene.agent.instance());
        folder.join("broker.sock")
    }

    /// A thousand of these requests at once; when `enough` of them were answered, or a worker ran, the
    /// agent is killed. How often each answer came: `done`, a reason, or `nothing` from a dead agent.
    fn killed_in_the_middle(
        &mut self,
        enough: u32,
        request: impl Fn(u32) -> Vec<u8> + Sync,
    ) -> BTreeMap<String, u32> {
        let (next, answered) = (AtomicU32::new(0), AtomicU32::new(0));
        let tally = Mutex::new(BTreeMap::new());
        let socket = self.socket();
        let until = Instant::now() + agent::patience();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= CALLS {
                            return;
                        }
                        let word = ask(&socket, &request(number));
                        if word != "nothing" {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        let mut tally = tally.lock().expect("no panic");
                        *tally.entry(word).or_insert(0) += 1;
                    }
                });
            }
            while answered.load(Ordering::Relaxed) < enough || self.runs() == 0 {
                assert!(Instant::now() < until, "{}", self.scene.agent.log());
                thread::sleep(Duration::from_millis(1));
            }
            self.scene.agent.kill().expect("it dies");
        });
        let tally = tally.into_inner().expect("no panic");
        println!("{tally:?}");
        assert!(
            tally.contains_key("nothing"),
            "it was not in the middle: {tally:?}"
        );
        self.scene.agent.launch().expect("it starts again");
        tally
    }
}

/// `done`, a reason, or `nothing` where nobody is there or the answer ends early.
fn ask(socket: &PathBuf, request: &[u8]) -> String {
    let asked = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(agent::patience()))?;
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<Value>(body) {
        Err(_) => "nothing".to_owned(),
        Ok(body) if body["replayed"] == true => "replayed".to_owned(),
        Ok(body) => body["reason"].as_str().unwrap_or("done").to_owned(),
    }
}

fn of(tally: &BTreeMap<String, u32>, word: &str) -> u32 {
    tally.get(word).copied().unwrap_or(0)
}

#[test]
fn one_proof_is_good_for_one_call_also_where_the_agent_is_killed() {
    let mut marked = Marked::new();
    let alice = marked.caller();
    let body = body("mark", "once", json!({"n": 1}), None);
    let proof = alice.proof(&body);
    let request = alice.request(&body, &proof);
    let tally = marked.killed_in_the_middle(100, |_| request.clone());
    assert!(of(&tally, "done") <= 1, "{tally:?}");
    assert_eq!(marked.runs(), 1, "{tally:?}");
    // Nor in the agent's next life: its nonce is another's.
    assert_eq!(ask(&marked.socket(), &request), "proof_nonce");
    assert_eq!(marked.runs(), 1);
    // The control: a fresh proof runs.
    let again = marked.caller().call("mark", "once", json!({"n": 1}));
    assert!(again.is_done(), "{again:?}");
    assert_eq!(marked.runs(), 2);
    marked.scene.end();
}

#[test]
fn one_key_runs_one_worker_also_where_the_agent_is_killed() {
    let mut marked = Marked::new();
    let alice = marked.caller();
    let key = Some("key-1");
    let body = body("mark", "once", json!({"n": 1}), key);
    let request = || alice.request(&body, &alice.proof(&body));
    // As soon as the worker ran, and before its answer is there.
    let tally = marked.killed_in_the_middle(1, |_| request());
    assert!(of(&tally, "done") <= 1, "{tally:?}");
    assert_eq!(marked.runs(), 1, "{tally:?}");
    let alice = marked.caller();
    for _ in 0..3 {
        let again = alice.call_once("mark", "once", json!({"n": 1}), key);
        let known = again.body["replayed"] == true || again.reason() == "outcome_unknown";
        assert!(known, "{again:?}");
        if of(&tally, "done") == 1 {
            assert_eq!(
                again.body["replayed"], true,
                "an answer that went out stays"
            );
        }
    }
    assert_eq!(marked.runs(), 1);
    marked.scene.end();
}

#[test]
fn a_day_has_so_many_places_also_where_the_agent_is_killed() {
    let mut marked = Marked::new();
    let alice = marked.caller();
    let requests: Vec<Vec<u8>> = (0..CALLS)
        .map(|n| {
            let body = body("mark", "daily", json!({"n": n}), None);
            alice.request(&body, &alice.proof(&body))
        })
        .collect();
    // In the middle of the places.
    let request = |n: u32| requests[usize::try_from(n).expect("small")].clone();
    let tally = marked.killed_in_the_middle(8, request);
    let before = marked.runs();
    assert!(
        before < PLACES,
        "{before} of {PLACES}: not in the middle: {tally:?}"
    );
    // What was charged and did not run is lost; nothing is given twice.
    let alice = marked.caller();
    let mut done = 0;
    let refused = loop {
        let answer = alice.call("mark", "daily", json!({"n": done}));
        if !answer.is_done() {
            break answer;
        }
        done += 1;
    };
    assert_eq!(refused.reason(), "quota_spent", "{refused:?}");
    let runs = marked.runs();
    println!("{before} ran before it was killed, {done} after, of {PLACES}");
    assert_eq!(runs, before + done);
    assert!(runs <= PLACES, "{runs}");
    assert!(
        runs + usize::try_from(THREADS).expect("small") >= PLACES,
        "{runs}"
    );
    // Nor after one more death.
    marked.scene.agent.kill().expect("it dies");
    marked.scene.agent.launch().expect("it starts again");
    let later = marked.caller().call("mark", "daily", json!({"n": 1}));
    assert_eq!(later.reason(), "quota_spent", "{later:?}");
    marked.scene.end();
}
