//! Where the time of a launch goes, and how many system calls it takes. Agent, process 1 and worker run one
//! after the other, so the moments of their system calls, as the kernel's own trace has them, part a launch
//! into steps. After it the place of the next session is made: steps of their own.
//!
//! Tracing makes each call some hundreds of nanoseconds longer: steps are to be held against each other,
//! not against the launch of another run.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use libc::{
    SYS_accept4, SYS_bpf, SYS_clone, SYS_clone3, SYS_execveat, SYS_exit_group,
    SYS_landlock_restrict_self, SYS_openat2, SYS_recvmsg, SYS_seccomp, SYS_sendmsg, SYS_sendto,
    SYS_setgroups, SYS_write, c_long,
};
use nix::time::{ClockId, clock_gettime};

#[cfg(target_arch = "x86_64")]
use libc::SYS_rmdir;
/// What rmdir(3) calls where there is no such system call.
#[cfg(target_arch = "aarch64")]
use libc::SYS_unlinkat as SYS_rmdir;

use crate::{
    launch::{Started, through_the_agent},
    row::Row,
    trace::{Edge, Event, Trace},
};

const WARM: usize = 20;
const ROUNDS: usize = 200;
/// After a launch: what the template makes ready for the next one is counted with it.
const PAUSE: Duration = Duration::from_millis(5);

/// A program that was changed just now is looked up by the template.
const SETTLED: Duration = Duration::from_millis(2_500);

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Agent,
    Template,
    Init,
    Worker,
    /// Process 1 of the next session.
    Next,
}

/// Each step begins where the one before ends; the first one begins when the caller connects. No
/// number stands for the first call of whatever number.
const STEPS: &[(&str, Who, Edge, Option<c_long>)] = &[
    ("01_agent_wakes", Who::Agent, Edge::Exit, Some(SYS_accept4)),
    ("02_request", Who::Agent, Edge::Enter, Some(SYS_write)),
    ("03_record", Who::Agent, Edge::Exit, Some(SYS_write)),
    ("04_place", Who::Agent, Edge::Enter, Some(SYS_bpf)),
    ("05_map_entry", Who::Agent, Edge::Enter, Some(SYS_openat2)),
    (
        "06_program_is_the_same",
        Who::Agent,
        Edge::Enter,
        Some(SYS_sendmsg),
    ),
    (
        "07_hop_to_process_1",
        Who::Init,
        Edge::Exit,
        Some(SYS_recvmsg),
    ),
    (
        "08_worker_process",
        Who::Worker,
        Edge::Exit,
        Some(SYS_clone),
    ),
    (
        "09_streams_limits",
        Who::Worker,
        Edge::Enter,
        Some(SYS_landlock_restrict_self),
    ),
    ("10_landlock", Who::Worker, Edge::Enter, Some(SYS_seccomp)),
    ("11_filters", Who::Worker, Edge::Enter, Some(SYS_execveat)),
    ("12_execute", Who::Worker, Edge::Enter, None),
    (
        "13_program_runs",
        Who::Worker,
        Edge::Enter,
        Some(SYS_exit_group),
    ),
    ("14_end_is_seen", Who::Agent, Edge::Enter, Some(SYS_rmdir)),
    ("15_clean_up", Who::Agent, Edge::Exit, Some(SYS_rmdir)),
    ("16_outcome", Who::Agent, Edge::Exit, Some(SYS_sendto)),
];
/// What is made ahead for the next session, from the call that makes its process 1.
const AHEAD: &[(&str, Who, Edge, Option<c_long>)] = &[
    ("1_namespaces", Who::Next, Edge::Exit, Some(SYS_clone3)),
    ("2_mounts", Who::Next, Edge::Enter, Some(SYS_setgroups)),
    ("3_identity", Who::Next, Edge::Enter, Some(SYS_execveat)),
    ("4_waits", Who::Next, Edge::Enter, None),
];
const MAKERS: &[(&str, Who)] = &[
    ("calls_agent", Who::Agent),
    ("calls_template", Who::Template),
    ("calls_process_1", Who::Init),
    ("calls_worker", Who::Worker),
    ("calls_next_process_1", Who::Next),
];

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let started = Started::new()?;
    let socket = started.agent.control_socket();
    for _ in 0..WARM {
        through_the_agent(&socket)?;
    }
    let status = started.agent.json("status")?;
    let agent = status.get("pid").and_then(serde_json::Value::as_u64);
    let agent = u32::try_from(agent.context("the agent's process")?)?;
    let template = template(agent)?;
    let threads = threads(agent)?;
    let mut all: Vec<_> = threads.iter().copied().collect();
    all.push(template);
    let trace = Trace::new(&all)?;
    thread::sleep(SETTLED);
    // The places that wait now were made unseen, and the template is to find the program once more.
    for _ in 0..WARM {
        through_the_agent(&socket)?;
        thread::sleep(PAUSE);
    }
    thread::sleep(PAUSE);
    let mut steps: Vec<Vec<f64>> = STEPS.iter().map(|_| Vec::new()).collect();
    let mut ahead: Vec<Vec<f64>> = AHEAD.iter().map(|_| Vec::new()).collect();
    let mut calls: Vec<Vec<f64>> = MAKERS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        trace.clear()?;
        let asked = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        through_the_agent(&socket)?;
        thread::sleep(PAUSE);
        let events = trace.events()?;
        let launch = Launch::new(&events, &threads, template)?;
        for (step, took) in steps.iter_mut().zip(launch.steps(asked)?) {
            step.push(took);
        }
        for (step, took) in ahead.iter_mut().zip(launch.ahead()?) {
            step.push(took);
        }
        for (count, (_, who)) in calls.iter_mut().zip(MAKERS) {
            count.push(launch.calls(*who));
        }
    }
    let row = |name: &str, unit, samples: &mut Vec<f64>| {
        Row::new("launch", "stockade", format!("step_{name}"), unit, samples)
    };
    let names = STEPS.iter().map(|(name, ..)| (*name).to_owned());
    let ahead_names = AHEAD.iter().map(|(name, ..)| format!("ahead_{name}"));
    let mut rows: Vec<_> = names
        .chain(ahead_names)
        .zip(steps.iter_mut().chain(&mut ahead))
        .map(|(name, samples)| row(&name, "µs", samples))
        .collect();
    let names = MAKERS.iter().map(|(name, _)| name);
    rows.extend(
        names
            .zip(&mut calls)
            .map(|(name, samples)| row(name, "", samples)),
    );
    Ok(rows)
}

fn threads(process: u32) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        all.extend(
            thread?
                .file_name()
                .to_str()
                .and_then(|id| id.parse::<u32>().ok()),
        );
    }
    Ok(all)
}

/// The template: the only child of the agent's only child.
fn template(agent: u32) -> Result<u32> {
    only_child(only_child(agent)?)
}

fn only_child(process: u32) -> Result<u32> {
    let mut children = String::new();
    for thread in threads(process)? {
        children += &fs::read_to_string(format!("/proc/{process}/task/{thread}/children"))?;
    }
    let mut words = children.split_whitespace();
    let child = words.next().context("no launcher, or no template")?;
    ensure!(words.next().is_none(), "more than one: {children}");
    Ok(child.parse()?)
}

/// One launch in a trace.
struct Launch<'trace> {
    events: &'trace [Event],
    threads: &'trace BTreeSet<u32>,
    template: u32,
    init: u32,
    worker: u32,
    next: u32,
}

impl<'trace> Launch<'trace> {
    fn new(events: &'trace [Event], threads: &'trace BTreeSet<u32>, template: u32) -> Result<Self> {
        let by = |edge, number| {
            let found = events
                .iter()
                .find(|event| event.edge == edge && event.number == number && event.result == 0);
            let found = found.map(|event| event.pid);
            found.ok_or_else(|| anyhow!("call {number} is not in {} events", events.len()))
        };
        Ok(Self {
            events,
            threads,
            template,
            // Who makes a worker, and the worker.
            init: by(Edge::Enter, SYS_clone)?,
            worker: by(Edge::Exit, SYS_clone)?,
            next: by(Edge::Exit, SYS_clone3)?,
        })
    }

    fn is_by(&self, who: Who, event: &Event) -> bool {
        match who {
            Who::Agent => self.threads.contains(&event.pid),
            Who::Template => event.pid == self.template,
            Who::Init => event.pid == self.init,
            Who::Worker => event.pid == self.worker,
            Who::Next => event.pid == self.next,
        }
    }

    /// Microseconds of each step.
    fn steps(&self, asked: Duration) -> Result<Vec<f64>> {
        self.part(STEPS, self.events, asked.as_secs_f64() * 1e6)
    }

    /// Microseconds of each step towards the next session.
    fn ahead(&self) -> Result<Vec<f64>> {
        let begin = self.events.iter().position(|event| {
            self.is_by(Who::Template, event)
                && event.edge == Edge::Enter
                && event.number == SYS_clone3
        });
        let begin = begin.context("no process 1 is made for the next session")?;
        let rest = self.events.get(begin..).unwrap_or_default();
        let moment = rest.first().map_or(0.0, |event| event.microseconds);
        self.part(AHEAD, rest, moment)
    }

    fn part(
        &self,
        steps: &[(&str, Who, Edge, Option<c_long>)],
        mut rest: &[Event],
        mut moment: f64,
    ) -> Result<Vec<f64>> {
        let mut took = Vec::new();
        for (name, who, edge, number) in steps {
            let found = rest.iter().position(|event| {
                self.is_by(*who, event)
                    && event.edge == *edge
                    && number.is_none_or(|number| event.number == number)
                    && (*edge == Edge::Enter || event.result >= 0)
            });
            let found = found.with_context(|| format!("step {name} is not in the trace"))?;
            let next = rest.get(found).map_or(moment, |event| event.microseconds);
            took.push(next - moment);
            moment = next;
            rest = rest.get(found + 1..).unwrap_or_default();
        }
        Ok(took)
    }

    /// System calls of a launch, from the request to the time when everything is ready for the next.
    fn calls(&self, who: Who) -> f64 {
        let made = self.events.iter();
        let made = made.filter(|event| event.edge == Edge::Enter && self.is_by(who, event));
        u32::try_from(made.count()).map_or(f64::NAN, f64::from)
    }
}
