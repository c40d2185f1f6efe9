//! Resource limits of a worker: what no cgroup controller counts, or a second line behind one.

use std::{fs, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::{kernel::cgroup::INIT_PROCESSES, policy::compiled};

/// Bytes of memory a worker may lock: key material, not a heap.
const LOCKED_BYTES_MAX: u64 = 1 << 20;
/// Bytes of signals and messages that may wait.
const QUEUED_MAX: u64 = 1024;

/// So many bytes hold no core dump, so none is written (`fs/coredump.c`); and it is the one value at which
/// the kernel hands none to a program of the host's either (`kernel.core_pattern` with a pipe), which
/// 0 does not keep it from.
const NO_CORE: u64 = 1;

/// Takes the limit of core dumps for this process, and for what it starts. The kernel refuses it where a
/// service manager or a container has set 0 and withholds `CAP_SYS_RESOURCE`: it stays at 0 then.
pub fn without_core() {
    let _stays = setrlimit(Resource::RLIMIT_CORE, NO_CORE, NO_CORE);
}

/// The limit of core dumps that workers can be given, as only an administrator of the host raises a hard
/// limit.
fn core() -> u64 {
    getrlimit(Resource::RLIMIT_CORE).map_or(0, |(_, hard)| hard.min(NO_CORE))
}

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limited {
    /// Descriptors of a process.
    OpenFiles,
    /// Processes and threads of the session's user.
    Processes,
    /// Private writable memory of a process. Not the address space: runtimes reserve far more of
    /// that than they use.
    Data,
    /// Core dumps.
    Core,
    /// Locked memory.
    LockedMemory,
    /// Queued signals.
    QueuedSignals,
    /// Bytes of message queues.
    MessageQueues,
    /// Real-time priority.
    RealTime,
    /// Raising its own priority.
    Nice,
    /// Seconds of processor time of a process.
    CpuTime,
}

/// One limit, soft and hard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub limited: Limited,
    /// How much.
    pub value: u64,
}

/// The limits that a policy asks for.
#[must_use]
pub fn limits(limits: &compiled::Limits) -> Vec<Limit> {
    let compiled::Limits {
        memory,
        processes,
        cpus_milli: _,
        open_files,
        cpu_time,
        output: _,
    } = *limits;
    let mut all = vec![
        (Limited::OpenFiles, u64::from(open_files)),
        (
            Limited::Processes,
            u64::from(processes.saturating_add(INIT_PROCESSES)),
        ),
        (Limited::Data, memory),
        (Limited::Core, core()),
        (Limited::LockedMemory, LOCKED_BYTES_MAX.min(memory)),
        (Limited::QueuedSignals, QUEUED_MAX),
        (Limited::MessageQueues, 0),
        (Limited::RealTime, 0),
        (Limited::Nice, 0),
    ];
    if cpu_time < Duration::MAX {
        // The session's account is looked at and ends it with its reason; this is for a process that
        // uses everything up by itself while nobody looks.
        all.push((Limited::CpuTime, cpu_time.as_secs().saturating_add(1)));
    }
    let limit = |(limited, value)| Limit { limited, value };
    all.into_iter().map(limit).collect()
}

/// Whether the kernel hands core dumps to a program or a socket of the host's (`core(5)`). Taken to be so
/// where it can not be read.
#[must_use]
pub fn core_handler() -> bool {
    let pattern = fs::read("/proc/sys/kernel/core_pattern");
    !pattern.is_ok_and(|pattern| !matches!(pattern.first(), Some(b'|' | b'@')))
}

/// The kernel's number for what is limited (`getrlimit(2)`).
#[must_use]
pub fn resource(limited: Limited) -> u32 {
    match limited {
        Limited::OpenFiles => libc::RLIMIT_NOFILE,
        Limited::Processes => libc::RLIMIT_NPROC,
        Limited::Data => libc::RLIMIT_DATA,
        Limited::Core => libc::RLIMIT_CORE,
        Limited::LockedMemory => libc::RLIMIT_MEMLOCK,
        Limited::QueuedSignals => libc::RLIMIT_SIGPENDING,
        Limited::MessageQueues => libc::RLIMIT_MSGQUEUE,
        Limited::RealTime => libc::RLIMIT_RTPRIO,
        Limited::Nice => libc::RLIMIT_NICE,
        Limited::CpuTime => libc::RLIMIT_CPU,
    }
}
