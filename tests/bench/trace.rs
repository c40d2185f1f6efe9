//! The system calls of some processes, and of those that they make, as the kernel's trace has them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use libc::c_long;
use nix::mount::{MsFlags, mount, umount};

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
pub(crate) struct Trace {
    folder: PathBuf,
    _mounted: Option<Mounted>,
}

/// The trace was not mounted: it is as long as this.
struct Mounted;

impl Trace {
    /// Begins to trace these threads, and the processes that they make from now on.
    pub(crate) fn new(threads: &[u32]) -> Result<Self> {
        let instances = Path::new(TRACING).join("instances");
        let mounted = if instances.exists() {
            None
        } else {
            Some(Mounted::new()?)
        };
        let folder = instances.join(format!("stockade-bench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let trace = Self {
            folder,
            _mounted: mounted,
        };
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
        let text = fs::read_to_string(self.folder.join("trace"))?;
        Ok(text.lines().filter_map(event).collect())
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.folder.join(file), value).with_context(|| file.to_owned())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Nothing is left to do where it can not be switched off.
        drop(self.set(CALLS, "0"));
        drop(fs::remove_dir(&self.folder));
    }
}

impl Mounted {
    fn new() -> Result<Self> {
        let none: Option<&str> = None;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(none, TRACING, Some("tracefs"), flags, none)
            .with_context(|| format!("mount -t tracefs none {TRACING}"))?;
        Ok(Self)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Somebody else may use it by now.
        umount(TRACING).ok();
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
