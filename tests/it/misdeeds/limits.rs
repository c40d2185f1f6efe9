//! What is used up: memory, processor time, patience.

use std::{
    fs,
    time::{Duration, Instant},
};

use lab::{cgroup, patience::scaled};
use serde_json::{Value, json};

use super::{WALL, scene};

#[test]
fn memory_ends_where_its_limit_is() {
    let scene = scene(&[("glutton", WALL, "")]);
    let program = "
parts = []
try:
    while True: parts.append(b'x' * (1 << 20))
except MemoryError:
    n = len(parts); parts.clear(); print(n < 64)";
    let output = scene.agent.run("glutton", &[program]).expect("it runs");
    // Where a controller counts, the kernel kills all of the session; else the process is refused.
    let counted = lab::cgroup::mount()
        .and_then(|mount| Ok(fs::read_to_string(mount.join("cgroup.controllers"))?))
        .expect("cgroup v2");
    if counted.split_whitespace().any(|name| name == "memory") {
        assert_eq!(scene.last_end(), json!("memory"), "{output:?}");
        assert_eq!(output.status.code(), Some(137), "{output:?}");
    } else {
        assert_eq!(scene.last_end(), json!({"exit": 0}), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "True\n");
    }
    scene.nothing_is_left("memory");
    scene.end();
}

#[test]
fn time_that_is_used_or_not_used_has_its_limits() {
    let spin = "cpu_time = \"1s\"";
    let scene = scene(&[
        ("spinner", "wall_timeout = \"30s\"", spin),
        (
            "sleeper",
            "wall_timeout = \"30s\"\nidle_timeout = \"1s\"",
            "",
        ),
        ("patient", "wall_timeout = \"30s\"", ""),
    ]);
    let turning = "
import os
for _ in range(3):
    if os.fork() == 0: break
while True: pass";
    for (tool, program, end, note) in [
        ("spinner", turning, "cpu_time", "`limits.cpu_time`"),
        (
            "sleeper",
            "import time; time.sleep(20)",
            "idle_timeout",
            "`idle_timeout`",
        ),
    ] {
        let begun = Instant::now();
        let output = scene.agent.run(tool, &[program]).expect("it runs");
        assert_eq!(output.status.code(), Some(137), "{tool}: {output:?}");
        assert_eq!(scene.last_end(), json!(end), "{tool}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(note), "{said}");
        assert!(begun.elapsed() < scaled(Duration::from_secs(8)), "{tool}");
        scene.nothing_is_left(tool);
    }
    // The controls: one that only works now and then, and one without such a limit.
    let busy = "
import time
begin = time.monotonic()
while time.monotonic() < begin + 3: time.sleep(0.05)";
    let output = scene.agent.run("sleeper", &[busy]).expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let output = scene
        .agent
        .run("patient", &["import time; time.sleep(2)"])
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    scene.end();
}

/// Signals come more often than the limit is looked at.
#[test]
fn signals_put_no_limit_off() {
    // What each process has of its own holds its four children for far longer.
    let scene = scene(&[("spinner", "wall_timeout = \"30s\"", "cpu_time = \"2s\"")]);
    let program = "
import os, signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print('on', flush=True)
for _ in range(4):
    if os.fork() == 0:
        while True: pass
while True: signal.pause()";
    let mut command = scene
        .agent
        .tool("spinner", &[program])
        .expect("the binary is built");
    command.stdout(std::process::Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().expect("it starts");
    let mut on = [0; 3];
    let mut stdout = child.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut stdout, &mut on).expect("it runs");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a number"));
    let patience = scaled(Duration::from_secs(10));
    while child.try_wait().expect("our child").is_none() && begun.elapsed() < patience {
        // It may end in between.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).ok();
        std::thread::sleep(Duration::from_millis(20));
    }
    lab::agent::wait(child, patience).expect("it ends");
    assert_eq!(scene.last_end(), json!("cpu_time"));
    scene.end();
}

/// The file of a limit, its value, and the measure of the record that speaks of it.
const FILES: &[(&str, &str, &str, &str)] = &[
    ("memory", "memory.max", "67108864", "memory"),
    ("memory", "memory.swap.max", "0", "memory"),
    ("memory", "memory.oom.group", "1", "memory"),
    // Process 1 of the session is the agent's.
    ("pids", "pids.max", "17", "processes"),
    ("cpu", "cpu.max", "50000 100000", "cpus"),
    ("io", "io.weight", "default 50", "disks"),
];

#[test]
fn every_controller_that_is_there_holds_its_limit() {
    let scene = scene(&[("held", "", "cpus = 0.5")]);
    let program = "import sys, time; print('on', flush=True); sys.stdin.read()";
    let mut command = scene.agent.tool("held", &[program]).expect("the binary");
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut on = [0; 3];
    let mut stdout = child.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut stdout, &mut on).expect("it runs");
    let cgroups = cgroup::sessions(scene.agent.instance()).expect("cgroup v2");
    let [session] = cgroups.as_slice() else {
        panic!("one session: {cgroups:?}");
    };
    let parent = session.parent().expect("a parent");
    let there = fs::read_to_string(parent.join("cgroup.subtree_control")).expect("controllers");
    let offered = fs::read_to_string(parent.join("cgroup.controllers")).expect("controllers");
    let read = |file: &str| fs::read_to_string(session.join(file)).ok();
    let values: Vec<_> = FILES.iter().map(|(_, file, ..)| read(file)).collect();
    drop(child.stdin.take());
    lab::agent::wait(child, scaled(Duration::from_secs(10))).expect("it ends");
    let text = fs::read_to_string(scene.agent.journal()).expect("the journal");
    let last = text.lines().last().expect("a record");
    let record: Value = serde_json::from_str(last).expect("a record");
    let measures = record["enforced"]["measures"].as_array().expect("measures");
    for ((controller, file, value, measure), found) in FILES.iter().zip(values) {
        let has = |list: &str| list.split_whitespace().any(|word| word == *controller);
        assert_eq!(
            has(&offered),
            has(&there),
            "{controller} is not handed down"
        );
        let said = measures.iter().find(|said| said["name"] == *measure);
        let state = said.expect("a measure")["state"].as_str();
        if has(&there) {
            // A kernel may lack a file of a controller that it has.
            if let Some(found) = found {
                assert_eq!(found.trim(), *value, "{file}");
            }
            assert_eq!(state, Some("enforced"), "{measure}");
        } else {
            assert_eq!(found, None, "{file}");
            assert_ne!(state, Some("enforced"), "{measure}: {said:?}");
        }
    }
    scene.end();
}
