//! A flood of connections of another user, through the whole agent. Counts, not times: whom the broker
//! knows is served, and what was turned away is told of, bounded and to the last one.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{agent::METRICS, metrics, patience::scaled};
use serde_json::{Value, json};

use super::{Scene, text};

/// Connections of the flood; the broker gives a user 512 at once.
const MANY: u32 = 20_000;
const SEATS: u32 = 512;
/// Calls during the flood, at least.
const CALLS: usize = 50;
/// So many are turned away at least, however slow the machine is.
const TURNED_AWAY_MIN: u64 = 10_000;
/// A user's refusals get 512 records at once, and 20 a second beyond them: of a minute or two.
const RECORDS_MAX: usize = 512 + 20 * 120;
/// A user that is no worker, and that nobody else is.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_mins(1);

/// Holds as many connections as it gets, and makes others that it leaves at once.
const FLOOD: &str = r#"
import socket, sys
path, many, seats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for number in range(many):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    if number < seats:
        held.append(s)
    else:
        s.close()
    if number == seats:
        print("flood", flush=True)
print("over", flush=True)
sys.stdin.read()
"#;

const POLICY: &str = r#"
version = 1
tool = "echo"
description = "Says nothing, each time"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/echo.py"]
protocol = "mcp"
reuse = "principal"
wall_timeout = "5m"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"

[[verb]]
name = "say"
description = "Says nothing"
scope = "echo:say"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
rate = "100000/min per user"
repeats = 100000
"#;
const WORKER: &str = r#"
import json, sys
for line in sys.stdin:
    r = json.loads(line); m = r["method"]
    if "id" not in r: continue
    if m == "initialize": a = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "echo", "version": "1"}}
    elif m == "tools/list": a = {"tools": [{"name": "say", "description": "Says nothing", "inputSchema": {"type": "object"}}]}
    else: a = {"content": [], "structuredContent": {}}
    print(json.dumps({"jsonrpc": "2.0", "id": r["id"], "result": a}), flush=True)
"#;
const IN: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {}, "additionalProperties": false}"#;

#[test]
fn who_is_known_is_served_in_a_flood_and_all_of_it_is_told_of() {
    // One of the groups that every Debian has: without one the socket is root's alone.
    let scene = Scene::configured(
        &[("echo", POLICY)],
        &[("echo.py", WORKER)],
        &[("in.json", IN)],
        |_| "[broker.calls]\ngroup = \"games\"\n".to_owned(),
    );
    let caller = scene.caller("alice", &["echo:say"]);
    let call = || {
        let answer = caller.call("echo", "say", json!({}));
        assert!(answer.is_done(), "{answer:?}\n{}", scene.agent.log());
    };
    call();
    let socket = Path::new("/run").join(scene.agent.instance());
    let socket = socket.join("broker.sock");
    let group = std::fs::metadata(&socket).expect("a socket").gid();
    let mut flood = Command::new("/usr/bin/python3")
        .args(["-I", "-c", FLOOD])
        .arg(&socket)
        .args([MANY.to_string(), SEATS.to_string()])
        .uid(NOBODY)
        .gid(group)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python");
    let mut said = BufReader::new(flood.stdout.take().expect("a pipe")).lines();
    let began = said.next().and_then(Result::ok);
    assert_eq!(began.as_deref(), Some("flood"), "every seat was given");
    let over = thread::spawn(move || said.next().and_then(Result::ok));
    // Each on a connection of its own, which waits in the same queue as the flood's.
    let mut calls = 0;
    while calls < CALLS || !over.is_finished() {
        call();
        calls += 1;
    }
    let over = over.join().expect("no panic");
    told(&scene);
    drop(flood.stdin.take());
    let output = flood.wait_with_output().expect("it ends");
    assert_eq!(over.as_deref(), Some("over"), "{}", text(&output.stderr));
    // Once its connections are gone the user is let in again: the seats were given back.
    let until = Instant::now() + scaled(PATIENCE);
    while !is_let_in(&socket, group) {
        assert!(Instant::now() < until, "no seat is given back");
        thread::sleep(Duration::from_millis(50));
    }
    scene.end();
}

/// Waits until as many are told of in the record as were counted.
fn told(scene: &Scene) {
    let until = Instant::now() + scaled(PATIENCE);
    loop {
        let page = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("a page");
        let samples = metrics::parse(&page);
        // Whoever holds a place and says nothing loses it after some time.
        let counted: f64 = ["connection_limit", "frame_too_slow"]
            .iter()
            .map(|code| {
                let label = format!("outcome=\"{code}\"");
                metrics::sum(&samples, "stockade_calls_total", &[&label])
            })
            .sum();
        let records = refusals(scene);
        let unrecorded: u64 = records.iter().filter_map(before).sum();
        let own = records.iter().filter(|one| one["code"] != "flood").count();
        assert!(own <= RECORDS_MAX, "{own} records");
        let all = unrecorded + own as u64;
        if format!("{counted}") == all.to_string() && all >= TURNED_AWAY_MIN {
            return;
        }
        assert!(
            Instant::now() < until,
            "{counted} counted, {own} recorded, {unrecorded} told of"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// The records of this user's refusals.
fn refusals(scene: &Scene) -> Vec<Value> {
    let path = format!("/var/lib/{}/journal.jsonl", scene.agent.instance());
    let text = std::fs::read_to_string(path).expect("a journal");
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    records
        .filter(|record: &Value| record["record"] == "refused" && record["caller"]["uid"] == NOBODY)
        .collect()
}

/// How many a record says were not recorded before it.
fn before(record: &Value) -> Option<u64> {
    let (before, _) = record["detail"]
        .as_str()?
        .split_once(" before it came too fast to record")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// Whether a connection of that user gets a word.
fn is_let_in(socket: &Path, group: u32) -> bool {
    const PING: &str = r#"
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
sys.exit(not s.recv(100))
"#;
    let mut ping = Command::new("/usr/bin/python3");
    ping.args(["-I", "-c", PING]).arg(socket);
    ping.uid(NOBODY).gid(group).stderr(Stdio::null());
    ping.status().expect("python").success()
}
