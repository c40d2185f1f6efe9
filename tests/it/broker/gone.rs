//! Callers that go away while a worker is started for them: the launch goes to its end, and nothing of it
//! stays.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{Scene, caller::body};

const POLICY: &str = r#"
version = 1
tool = "once"
description = "A process for each call"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/once.py"]
protocol = "json"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"

[[verb]]
name = "ask"
description = "Answers"
scope = "once:ask"
arguments = "{scratch}/schemas/in.json"
[verb.limits]
rate = "100000/min per user"
concurrency = 64
repeats = 100000
"#;
const WORKER: &str = r#"
import json, sys
json.load(sys.stdin)
json.dump({"result": {}}, sys.stdout)
"#;
const IN: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {}, "additionalProperties": false}"#;
/// More than there are places that wait, so that some ask the template.
const CALLERS: usize = 8;
/// Less than a template has to make a place.
const STOPPED: Duration = Duration::from_millis(800);

#[test]
fn callers_that_leave_during_a_launch_leave_no_session() {
    let scene = Scene::new(
        &[("once", POLICY)],
        &[("once.py", WORKER)],
        &[("in.json", IN)],
    );
    let alice = scene.caller("alice", &["once:ask"]);
    let before = alice.call("once", "ask", json!({}));
    assert!(before.is_done(), "{before:?}");
    let agent = scene.agent.id().expect("the agent runs");
    let [_, _, template] = crate::many::tree(agent)[..] else {
        panic!("agent, launcher and template");
    };
    let template = Pid::from_raw(i32::try_from(template).expect("a number of a process"));
    kill(template, Signal::SIGSTOP).expect("it is stopped");
    let socket = Path::new("/run").join(scene.agent.instance());
    let leaving: Vec<_> = (0..CALLERS)
        .map(|_| {
            let body = body("once", "ask", json!({}), None);
            let mut stream = UnixStream::connect(socket.join("broker.sock")).expect("it listens");
            let request = alice.request(&body, &alice.proof(&body));
            stream.write_all(&request).expect("it reads");
            stream
        })
        .collect();
    sleep(STOPPED / 2);
    let running = || {
        let sessions = scene.agent.json("sessions").expect("the agent answers");
        sessions.as_array().expect("a list").len()
    };
    assert_ne!(running(), 0, "some are in the middle of their launch");
    drop(leaving);
    sleep(STOPPED / 2);
    kill(template, Signal::SIGCONT).expect("it goes on");
    let until = Instant::now() + lab::patience::scaled(Duration::from_secs(20));
    while running() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(running(), 0, "{}", scene.agent.log());
    let after = alice.call("once", "ask", json!({}));
    assert!(after.is_done(), "{after:?}");
    scene.end();
}
