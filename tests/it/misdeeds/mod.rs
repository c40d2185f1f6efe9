//! Workers that misbehave: each ends with a reason, in time, and leaves nothing behind.

mod codes;
mod limits;
mod output;

use std::{
    fs,
    time::{Duration, Instant},
};

use lab::{Lab, agent::Agent, binary::Scratch, cgroup, patience::scaled};
use serde_json::{Value, json};

/// Files and folders that the tests put beside the policies.
const POLICY: &str = r#"
version = 1
tool = "{tool}"
[worker]
command = ["/usr/bin/python3", "-c"]
{worker}
[filesystem]
read = ["/usr"]
execute = ["/usr", "{scratch}"]
workdir_size = "1MiB"
[syscalls]
profile = "interpreter"
[limits]
memory = "64MiB"
processes = 16
open_files = 64
output = "1MiB"
{limits}
"#;

const WALL: &str = "wall_timeout = \"2s\"";

/// What is killed by its wall timeout.
const TIMED_OUT: i32 = 137;

/// One misdeed and its end.
struct Misdeed {
    name: &'static str,
    program: &'static str,
    code: i32,
    end: Value,
    stdout: &'static str,
}

fn misdeed(
    name: &'static str,
    program: &'static str,
    code: i32,
    end: Value,
    stdout: &'static str,
) -> Misdeed {
    Misdeed {
        name,
        program,
        code,
        end,
        stdout,
    }
}

fn text(tool: &str, worker: &str, limits: &str) -> String {
    POLICY
        .replace("{tool}", tool)
        .replace("{worker}", worker)
        .replace("{limits}", limits)
}

struct Scene {
    _lab: Lab,
    agent: Agent,
}

fn scene(policies: &[(&str, &str, &str)]) -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let texts: Vec<_> = policies
        .iter()
        .map(|(tool, worker, limits)| (*tool, text(tool, worker, limits)))
        .collect();
    let texts: Vec<_> = texts
        .iter()
        .map(|(tool, text)| (*tool, text.as_str()))
        .collect();
    let agent = Agent::start_in(lab.host(), scratch, &texts).expect("an agent");
    Scene { _lab: lab, agent }
}

impl Scene {
    /// What the journal says of each session that has ended.
    fn outcomes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.agent.journal()).expect("the journal");
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a record"));
        let ends = records.filter(|record| record["record"] == "outcome");
        ends.collect()
    }

    /// How the last session ended, by the journal.
    fn last_end(&self) -> Value {
        let outcomes = self.outcomes();
        outcomes.last().expect("an outcome")["end"].clone()
    }

    fn nothing_is_left(&self, of: &str) {
        let cgroups = cgroup::sessions(self.agent.instance()).expect("cgroup v2");
        assert!(cgroups.is_empty(), "{of}: {cgroups:?}");
        let sessions = self.agent.json("sessions").expect("the agent answers");
        assert_eq!(sessions.as_array().map(Vec::len), Some(0), "{of}");
    }

    fn end(self) {
        assert_eq!(self.agent.end().expect("it ends"), Vec::<String>::new());
    }
}

fn check(tool: &str, misdeeds: &[Misdeed]) {
    let scene = scene(&[(tool, WALL, "")]);
    for Misdeed {
        name,
        program,
        code,
        end,
        stdout,
    } in misdeeds
    {
        let begun = Instant::now();
        let output = scene
            .agent
            .run(tool, &[program])
            .expect("the command line runs");
        assert_eq!(output.status.code(), Some(*code), "{name}: {output:?}");
        assert_eq!(scene.last_end(), *end, "{name}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, *stdout, "{name}: {output:?}");
        let lasted = begun.elapsed();
        assert!(
            lasted < scaled(Duration::from_secs(6)),
            "{name}: {lasted:?}"
        );
        scene.nothing_is_left(name);
    }
    scene.end();
}

#[test]
fn floods_end_where_their_limit_is() {
    let full = "
import errno, os
for folder in ('/workdir', '/tmp'):
    try:
        with open(folder + '/x', 'wb', 0) as file:
            while True: file.write(bytes(1 << 16))
    except OSError as error: print(errno.errorcode[error.errno], flush=True)
os._exit(7)";
    let inodes = "
import errno
for folder in ('/workdir', '/tmp'):
    try:
        n = 0
        while True:
            open(f'{folder}/{n}', 'w').close(); n += 1
    except OSError as error: print(errno.errorcode[error.errno], n < 2000)";
    let threads = "
import threading, time
threading.stack_size(1 << 18)
n = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start(); n += 1
except RuntimeError: print(8 < n < 16, flush=True)
import os; os._exit(3)";
    let descriptors = "
import os
n = 0
try:
    while True: os.dup(0); n += 1
except OSError: print(n < 64)";
    let forks = "
import os
while True:
    try: os.fork()
    except OSError: pass";
    check(
        "floods",
        &[
            misdeed("disk", full, 7, json!({"exit": 7}), "ENOSPC\nENOSPC\n"),
            misdeed(
                "inodes",
                inodes,
                0,
                json!({"exit": 0}),
                "ENOSPC True\nENOSPC True\n",
            ),
            misdeed("threads", threads, 3, json!({"exit": 3}), "True\n"),
            misdeed("descriptors", descriptors, 0, json!({"exit": 0}), "True\n"),
            misdeed("forks", forks, TIMED_OUT, json!("wall_timeout"), ""),
        ],
    );
}

#[test]
fn those_that_do_not_want_to_end_are_ended() {
    let deaf = "
import signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
time.sleep(60)";
    let stopped = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)";
    let silent = "
import os
for fd in (0, 1, 2): os.close(fd)
os._exit(5)";
    let renamed = "
import ctypes, os
libc = ctypes.CDLL(None)
libc.prctl(15, b'stockade', 0, 0, 0)
with open('/proc/self/comm') as comm: print(comm.read().strip(), flush=True)
os._exit(4)";
    let daemon = "
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
os._exit(6)";
    let race = "
import os
for _ in range(12):
    try:
        if os.fork(): continue
    except OSError: break
    while True:
        try: os.fork()
        except OSError: pass
os._exit(8)";
    let group = "import os; os.kill(0, 9)";
    check(
        "stubborn",
        &[
            misdeed("deaf", deaf, TIMED_OUT, json!("wall_timeout"), ""),
            misdeed("stopped", stopped, TIMED_OUT, json!("wall_timeout"), ""),
            misdeed("silent", silent, 5, json!({"exit": 5}), ""),
            misdeed("renamed", renamed, 4, json!({"exit": 4}), "stockade\n"),
            misdeed("daemon", daemon, 6, json!({"exit": 6}), ""),
            misdeed("race", race, 8, json!({"exit": 8}), ""),
            misdeed("own group", group, 137, json!({"signal": 9}), ""),
        ],
    );
}
