//! Workers that stay warm: for the same session of the same caller, and for nobody else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Scene, caller::Caller};

const POLICY: &str = r#"
version = 1
tool = "count"
description = "Counts the calls of its process"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/count.py"]
protocol = "mcp"
reuse = "session"
wall_timeout = "2m"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"

[[verb]]
name = "next"
description = "How often this process was asked"
scope = "count:next"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
rate = "100000/min per user"

[[verb]]
name = "hang"
description = "Never answers"
scope = "count:next"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
rate = "100000/min per user"
"#;
const WORKER: &str = r#"
import json, sys, time
TOOLS = [{"name": n, "description": n, "inputSchema": {"type": "object"}} for n in ("next", "hang")]
count = 0
for line in sys.stdin:
    r = json.loads(line); m = r["method"]
    if "id" not in r: continue
    if m == "initialize": a = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "count", "version": "1"}}
    elif m == "tools/list": a = {"tools": TOOLS}
    elif m == "tools/call" and r["params"]["name"] == "hang": time.sleep(100)
    else:
        count += 1
        a = {"content": [], "structuredContent": {"count": count}}
    print(json.dumps({"jsonrpc": "2.0", "id": r["id"], "result": a}), flush=True)
"#;
const IN: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {}, "additionalProperties": false}"#;

fn scene() -> Scene {
    Scene::new(
        &[("count", POLICY)],
        &[("count.py", WORKER)],
        &[("in.json", IN)],
    )
}

fn of_session(scene: &Scene, subject: &str, session: &str) -> Caller {
    scene.caller_of(subject, &["count:next"], &["--session-hash", session])
}

fn next(scene: &Scene, caller: &Caller) -> Value {
    let answer = caller.call("count", "next", json!({}));
    assert!(answer.is_done(), "{answer:?}\n{}", scene.agent.log());
    answer.structured()["count"].clone()
}

#[test]
fn a_warm_worker_is_for_one_session_of_one_caller() {
    let scene = scene();
    let alice = of_session(&scene, "alice", "one");
    assert_eq!(next(&scene, &alice), 1);
    assert_eq!(next(&scene, &alice), 2);
    let same = of_session(&scene, "alice", "one");
    assert_eq!(next(&scene, &same), 3, "another token of the same session");
    let other = of_session(&scene, "alice", "two");
    assert_eq!(next(&scene, &other), 1, "another session");
    let bob = of_session(&scene, "bob", "one");
    assert_eq!(next(&scene, &bob), 1, "another user");
    let none = scene.caller("alice", &["count:next"]);
    assert_eq!(next(&scene, &none), 1, "no session");
    assert_eq!(next(&scene, &none), 1, "shares with nobody");
    assert_eq!(next(&scene, &alice), 4);
    // A change of the policy lets them all go.
    let changed = POLICY.replace("2m", "3m");
    scene
        .agent
        .write_policy("count", &changed)
        .expect("it is written");
    scene.agent.reload().expect("the agent reloads");
    assert_eq!(next(&scene, &alice), 1, "another policy");
    scene.end();
}

#[test]
fn off_ends_a_call_that_runs() {
    let scene = scene();
    let alice = of_session(&scene, "alice", "one");
    let began = Instant::now();
    let answer = std::thread::scope(|scope| {
        let hangs = scope.spawn(|| alice.call("count", "hang", json!({})));
        std::thread::sleep(Duration::from_secs(2));
        let off = scene.agent.command(&["tool", "off", "count"]);
        assert!(off.expect("it runs").status.success());
        hangs.join().expect("no panic")
    });
    assert_eq!(answer.reason(), "killed", "{answer:?}");
    assert!(began.elapsed() < lab::patience::scaled(Duration::from_secs(30)));
    scene.end();
}

#[test]
fn a_call_in_which_the_agent_died_never_runs_again_by_itself() {
    let mut scene = scene();
    let alice = of_session(&scene, "alice", "one");
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| alice.call_once("count", "hang", json!({}), Some("key-1")));
        std::thread::sleep(Duration::from_secs(2));
        scene.agent.kill().expect("it dies");
        assert!(hangs.join().is_err(), "nobody answers");
    });
    scene.agent.launch().expect("it starts again");
    let alice = of_session(&scene, "alice", "one");
    let again = alice.call_once("count", "hang", json!({}), Some("key-1"));
    assert_eq!(again.reason(), "outcome_unknown", "{again:?}");
    let free = alice.call_once("count", "next", json!({}), Some("key-2"));
    assert!(free.is_done(), "another key is another call: {free:?}");
    let unknown = scene.records(&["--outcome", "outcome_unknown", "--verb", "hang"]);
    assert_eq!(
        unknown.len(),
        2,
        "the one that died and the one refused: {unknown:#?}"
    );
    scene.end();
}
