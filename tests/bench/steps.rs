//! Where the time of a launch goes. Template, process 1 and worker run one after the other, so the
//! moments of their system calls, as the kernel's own trace has them, part a launch into steps.
//!
//! Tracing makes each call some hundreds of nanoseconds longer: steps are to be held against each other,
//! not against the launch of another run.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{Lab, agent::Agent, binary::Scratch};
use libc::{
    SYS_clone3, SYS_execveat, SYS_recvmsg, SYS_seccomp, SYS_sendmsg, SYS_setgroups, c_long,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    launch::{POLICY, through_the_agent},
    row::Row,
};

const WARM: usize = 20;
const ROUNDS: usize = 200;
/// Where the kernel's trace is, or where it can be mounted.
const TRACING: &str = "/sys/kernel/tracing";
const BUFFER_KIB: &str = "4096";
/// Between launches: what the template makes ready for the next one is no part of one.
const PAUSE: Duration = Duration::from_millis(2);

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Template,
    Init,
    Worker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Enter,
    Exit,
}

/// Each step begins where the one before ends; the first one begins with the request.
const STEPS: [(&str, Who, Edge, c_long); 8] = [
    ("step_1_prepare", Who::Template, Edge::Enter, SYS_clone3),
    ("step_2_namespaces", Who::Init, Edge::Exit, SYS_clone3),
    ("step_3_mounts", Who::Init, Edge::Enter, SYS_setgroups),
    ("step_4_identity", Who::Init, Edge::Enter, SYS_clone3),
    ("step_5_worker_process", Who::Worker, Edge::Exit, SYS_clone3),
    (
        "step_6_worker_limits_landlock",
        Who::Worker,
        Edge::Enter,
        SYS_seccomp,
    ),
    ("step_7_filters", Who::Worker, Edge::Enter, SYS_execveat),
    ("step_8_execute", Who::Worker, Edge::Exit, SYS_execveat),
];

/// An event of the trace.
struct Event {
    pid: u32,
    microseconds: f64,
    edge: Edge,
    number: c_long,
    result: i64,
}

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    // A mount namespace of its own: what it mounts goes with it.
    let bench = thread::spawn(|| {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        if !Path::new(TRACING).join("instances").exists() {
            mount(none, TRACING, Some("tracefs"), MsFlags::empty(), none).context(TRACING)?;
        }
        measured()
    });
    bench
        .join()
        .map_err(|_panic| anyhow!("the bench panicked"))?
}

fn measured() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(&[])?;
    let scratch = Scratch::new()?;
    scratch.install("prober")?;
    let agent = Agent::start_in(lab.host(), scratch, &[("stamp", POLICY)])?;
    let socket = agent.control_socket();
    for _ in 0..WARM {
        through_the_agent(&socket)?;
    }
    let status = agent.json("status")?;
    let template = template(status["pid"].as_u64().context("the agent's process")?)?;
    let trace = Trace::new(template)?;
    let mut steps: Vec<Vec<f64>> = STEPS.iter().map(|_| Vec::new()).collect();
    let mut calls = Vec::new();
    for _ in 0..ROUNDS {
        thread::sleep(PAUSE);
        trace.clear()?;
        through_the_agent(&socket)?;
        let events = trace.events()?;
        let launch = Launch::find(&events, template)?;
        for (step, took) in steps.iter_mut().zip(launch.steps) {
            step.push(took);
        }
        calls.push(launch.calls);
    }
    let mut rows: Vec<_> = STEPS
        .iter()
        .zip(&mut steps)
        .map(|((name, ..), samples)| Row::new("steps", "stockade", *name, "µs", samples))
        .collect();
    rows.push(Row::new(
        "steps",
        "stockade",
        "system_calls",
        "",
        &mut calls,
    ));
    Ok(rows)
}

/// The template: the only child of the agent's only child.
fn template(agent: u64) -> Result<u32> {
    let mut pid = agent.to_string();
    for _ in 0..2 {
        let mut children = String::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            children += &fs::read_to_string(thread?.path().join("children"))?;
        }
        let mut words = children.split_whitespace();
        pid = words
            .next()
            .context("no launcher, or no template")?
            .to_owned();
        ensure!(words.next().is_none(), "more than one: {children}");
    }
    Ok(pid.parse()?)
}

/// A buffer of the kernel's trace of our own, of a process and those that it makes.
struct Trace(PathBuf);

impl Trace {
    fn new(process: u32) -> Result<Self> {
        let name = format!("launch-steps-{}", std::process::id());
        let trace = Self(Path::new(TRACING).join("instances").join(name));
        fs::create_dir(&trace.0).with_context(|| trace.0.display().to_string())?;
        trace.set("trace_clock", "mono")?;
        trace.set("buffer_size_kb", BUFFER_KIB)?;
        trace.set("options/event-fork", "1")?;
        trace.set("set_event_pid", &process.to_string())?;
        trace.set("events/raw_syscalls/enable", "1")?;
        Ok(trace)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.0.join(file), value).with_context(|| file.to_owned())
    }

    fn clear(&self) -> Result<()> {
        self.set("trace", "")
    }

    fn events(&self) -> Result<Vec<Event>> {
        let text = fs::read_to_string(self.0.join("trace"))?;
        Ok(text.lines().filter_map(event).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        drop(self.set("events/raw_syscalls/enable", "0"));
        drop(fs::remove_dir(&self.0));
    }
}

/// `comm-PID [CPU] FLAGS SECONDS: sys_enter: NR 47 (…)`, or `…: sys_exit: NR 47 = 12`.
fn event(line: &str) -> Option<Event> {
    let (head, call) = line.split_once(": sys_")?;
    let (task, rest) = head.split_once(" [")?;
    let (_, pid) = task.rsplit_once('-')?;
    let seconds: f64 = rest.split_whitespace().last()?.parse().ok()?;
    let (edge, call) = call.split_once(": NR ")?;
    let mut words = call.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let (edge, result) = match edge {
        "enter" => (Edge::Enter, 0),
        "exit" => (Edge::Exit, words.nth(1)?.parse().ok()?),
        _ => return None,
    };
    Some(Event {
        pid: pid.trim().parse().ok()?,
        microseconds: seconds * 1e6,
        edge,
        number,
        result,
    })
}

/// One launch in a trace.
struct Launch {
    steps: Vec<f64>,
    /// System calls from the request to the answer.
    calls: f64,
}

impl Launch {
    fn find(events: &[Event], template: u32) -> Result<Self> {
        let made: Vec<_> = events
            .iter()
            .filter(|event| {
                event.edge == Edge::Exit && event.number == SYS_clone3 && event.result == 0
            })
            .map(|event| event.pid)
            .collect();
        let [init, worker, ..] = made.as_slice() else {
            return Err(anyhow!(
                "{} processes made in {} events",
                made.len(),
                events.len()
            ));
        };
        let pid = |who| match who {
            Who::Template => template,
            Who::Init => *init,
            Who::Worker => *worker,
        };
        let position = |from: usize, who, edge, number| {
            let rest = events.get(from..).unwrap_or_default();
            let found = rest.iter().position(|event| {
                event.pid == pid(who) && event.edge == edge && event.number == number
            });
            found.map(|at| from + at)
        };
        let request = position(0, Who::Template, Edge::Exit, SYS_recvmsg);
        let mut at = request.context("no request")?;
        let begun = at;
        let mut steps = Vec::new();
        for (name, who, edge, number) in STEPS {
            let next = position(at, who, edge, number).context(name)?;
            let moment = |at: usize| events.get(at).map_or(0.0, |event| event.microseconds);
            steps.push(moment(next) - moment(at));
            at = next;
        }
        let answer = position(at, Who::Template, Edge::Enter, SYS_sendmsg).context("no answer")?;
        let during = events.get(begun..=answer).unwrap_or_default();
        let executed = |event: &&Event| {
            event.pid != *worker
                || event.microseconds <= { events.get(at).map_or(0.0, |event| event.microseconds) }
        };
        let calls = during.iter().filter(|event| event.edge == Edge::Enter);
        #[expect(clippy::cast_precision_loss, reason = "some hundreds of calls")]
        let calls = calls.filter(executed).count() as f64;
        Ok(Self { steps, calls })
    }
}
