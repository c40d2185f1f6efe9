//! The system calls of some processes, and of those that they make, as the kernel's trace has them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use libc::c_long;

/// Where the kernel's trace is mounted on every systemd host, and `perf` mounts it elsewhere.
const TRACING: &str = "/sys/kernel/tracing";
const BUFFER_KIB: &str = "8192";
const CALLS: &str = "events/raw_syscalls/enable";

/// Which end of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edge {
    Enter,
    Exit,
}

/// An event of the trace.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) pid: u32,
    /// Of the monotonic clock.
    pub(crate) microseconds: f64,
    pub(crate) edge: Edge,
    pub(crate) number: c_long,
    /// At its exit.
    pub(crate) result: i64,
}

/// A buffer of our own.
pub(crate) struct Trace(PathBuf);

impl Trace {
    /// Begins to trace these threads, and the processes that they make from now on.
    pub(crate) fn new(threads: &[u32]) -> Result<Self> {
        let name = format!("stockade-bench-{}", std::process::id());
        let folder = Path::new(TRACING).join("instances").join(name);
        fs::create_dir(&folder).with_context(|| {
            format!(
                "{}; hint: mount -t tracefs none {TRACING}",
                folder.display()
            )
        })?;
        let trace = Self(folder);
        trace.set("trace_clock", "mono")?;
        trace.set("buffer_size_kb", BUFFER_KIB)?;
        trace.set("options/event-fork", "1")?;
        let threads: Vec<_> = threads.iter().map(ToString::to_string).collect();
        trace.set("set_event_pid", &threads.join(" "))?;
        trace.set(CALLS, "1")?;
        Ok(trace)
    }

    /// Forgets what was traced so far.
    pub(crate) fn clear(&self) -> Result<()> {
        self.set("trace", "")
    }

    /// What was traced, in the order of time.
    pub(crate) fn events(&self) -> Result<Vec<Event>> {
        let text = fs::read_to_string(self.0.join("trace"))?;
        Ok(text.lines().filter_map(event).collect())
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.0.join(file), value).with_context(|| file.to_owned())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Nothing is left to do where it can not be switched off.
        drop(self.set(CALLS, "0"));
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
