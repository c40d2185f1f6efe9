//! Answers that are streams of events, and calls that are cut off.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use lab::patience;
use serde_json::{Value, json};

use super::{Scene, caller::Caller};

const POLICY: &str = r#"
version = 1
tool = "slow"
description = "Tells how far it is, and that it was told to stop"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/slow.py"]
protocol = "mcp"
reuse = "session"
wall_timeout = "2m"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"

[[verb]]
name = "steps"
description = "So many steps, then never an end or a result"
scope = "slow:steps"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
repeats = 1000
"#;
/// After `count` steps it waits for what is said next: more than 5 are never answered.
const WORKER: &str = r#"
import json, sys
def say(message): print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    r = json.loads(line); m = r["method"]
    if m == "notifications/cancelled": print("told to stop", r["params"]["requestId"], file=sys.stderr, flush=True)
    if "id" not in r: continue
    if m == "initialize": a = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "slow", "version": "1"}}
    elif m == "tools/list": a = {"tools": [{"name": "steps", "description": "steps", "inputSchema": {"type": "object"}}]}
    else:
        count, token = r["params"]["arguments"]["count"], r["params"].get("_meta", {}).get("progressToken")
        for step in range(min(count, 5)):
            if token is not None:
                say({"method": "notifications/progress", "params": {"progressToken": token, "progress": step + 1, "total": count, "message": "swordfish"}})
                say({"method": "notifications/progress", "params": {"progressToken": token + 1000, "progress": 77}})
        if count > 5: continue
        a = {"content": [{"type": "text", "text": "done"}]}
    say({"id": r["id"], "result": a})
"#;
const IN: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {"count": {"type": "integer", "minimum": 0, "maximum": 100}},
"required": ["count"], "additionalProperties": false}"#;

fn scene() -> Scene {
    Scene::new(
        &[("slow", POLICY)],
        &[("slow.py", WORKER)],
        &[("in.json", IN)],
    )
}

fn caller(scene: &Scene, subject: &str) -> Caller {
    scene.caller_of(subject, &["slow:steps"], &["--session-hash", "one"])
}

fn steps(id: u64, count: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
        "name": "slow.steps", "arguments": {"count": count}, "_meta": {"progressToken": "mine"},
    }})
}

/// The head of an answer, and a reader of what follows.
fn head(stream: UnixStream) -> (String, BufReader<UnixStream>) {
    let patience = patience::scaled(Duration::from_secs(20));
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).expect("it answers");
        assert!(read > 0, "{head}");
    }
    (head.to_lowercase(), reader)
}

/// Waits until the journal has so many cancelled calls.
fn cancelled(scene: &Scene, count: usize) {
    let until = Instant::now() + patience::scaled(Duration::from_secs(20));
    while scene.records(&["--outcome", "cancelled"]).len() != count {
        assert!(Instant::now() < until, "{}", scene.agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn progress_comes_as_events_and_then_the_result() {
    let scene = scene();
    let alice = caller(&scene, "alice");
    let (head, mut reader) = head(alice.begin(&steps(7, 3)));
    assert!(
        head.starts_with("http/1.1 200"),
        "{head}\n{}",
        scene.agent.log()
    );
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(head.contains("dpop-nonce: "), "{head}");
    let mut all = String::new();
    reader.read_to_string(&mut all).expect("it ends");
    let events: Vec<Value> = all
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    let [progress @ .., result] = events.as_slice() else {
        panic!("{all}");
    };
    let seen: Vec<_> = progress.iter().map(|event| &event["params"]).collect();
    let wanted = |step| json!({"progressToken": "mine", "progress": step, "total": 3});
    assert_eq!(seen, [&wanted(1), &wanted(2), &wanted(3)], "{all}");
    assert_eq!(result["id"], 7);
    assert_eq!(result["result"]["content"][0]["text"], "done", "{all}");
    assert!(!all.contains("swordfish"), "a worker's words are no result");
    scene.end();
}

#[test]
fn a_caller_that_goes_away_cancels_and_the_worker_is_told() {
    let scene = scene();
    let alice = caller(&scene, "alice");
    let (_, reader) = head(alice.begin(&steps(1, 50)));
    drop(reader);
    cancelled(&scene, 1);
    let told = |count| scene.agent.log().matches("told to stop").count() == count;
    let until = Instant::now() + patience::scaled(Duration::from_secs(20));
    while !told(1) {
        assert!(Instant::now() < until, "{}", scene.agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // The worker that was cut off is not used again.
    let (_, mut reader) = head(alice.begin(&steps(2, 2)));
    let mut all = String::new();
    reader.read_to_string(&mut all).expect("it ends");
    assert!(all.contains("done"), "{all}");
    scene.end();
}

#[test]
fn a_cancellation_ends_the_own_call_and_nobody_elses() {
    let scene = scene();
    let (alice, bob) = (caller(&scene, "alice"), caller(&scene, "bob"));
    let (_, mut of_alice) = head(alice.begin(&steps(5, 50)));
    let stop =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}});
    // The same process, the same id, another's token.
    let (answer, _) = head(bob.begin(&stop));
    assert!(answer.starts_with("http/1.1 202"), "{answer}");
    std::thread::sleep(Duration::from_millis(500));
    assert!(scene.records(&["--outcome", "cancelled"]).is_empty());
    let (answer, _) = head(alice.begin(&stop));
    assert!(answer.starts_with("http/1.1 202"), "{answer}");
    cancelled(&scene, 1);
    let mut all = String::new();
    of_alice.read_to_string(&mut all).expect("it ends");
    assert!(
        all.contains("\"id\":5"),
        "its stream ends with an answer: {all}"
    );
    scene.end();
}
