//! What was put up for a session, measure by measure. Every measure here is either in force, covered
//! by another one, or missing with a reason; a required one that is missing means that nothing was
//! started.

mod record;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use record::Enforced;
pub(crate) use record::Shared;

use super::{
    landlock::{ABI_SCOPES, ABI_TCP},
    plan::{Plan, Space},
    procfs::Masked,
    rlimit::Limited,
    sockets,
};
use crate::kernel::cgroup::{self, MeasuredBy};

/// Landlock ABIs that added a right, and what covers it before.
const LANDLOCK_RIGHTS: &[(&str, i32, &str)] = &[
    ("landlock_files", 1, ""),
    (
        "landlock_refer",
        2,
        "landlock ABI 1, which refuses it always",
    ),
    ("landlock_truncate", 3, "read-only mounts"),
    (
        "landlock_device_ioctl",
        5,
        "the system call filter's list of ioctls",
    ),
    (
        "landlock_scopes",
        ABI_SCOPES,
        "no unix sockets by name; own pid namespace and uid",
    ),
    (
        "landlock_unix_paths",
        9,
        "a root without foreign sockets; no unix sockets by name in most profiles",
    ),
];

/// State of a measure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "by")]
pub enum State {
    /// In force.
    Enforced,
    /// Not available; something else does its work.
    Covered(Cow<'static, str>),
    /// Not in force, for this reason. Never a required measure.
    Missing(Cow<'static, str>),
}

/// One measure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// Its name, stable.
    pub name: Cow<'static, str>,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
    /// In numbers or words.
    pub detail: String,
}

impl Measure {
    /// A measure.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        state: State,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            state,
            detail: detail.into(),
        }
    }

    fn enforced(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(name, State::Enforced, detail)
    }
}

fn fence(plan: &Plan, memory_counted: bool) -> Vec<Measure> {
    let mut measures = vec![
        Measure::enforced("pid_namespace", "process 1 is the session's own"),
        Measure::enforced("mount_namespace", "own copy of the policy's root"),
        Measure::enforced("ipc_namespace", ""),
        Measure::enforced("uts_namespace", super::plan::HOST_NAME),
        Measure::new(
            "network_namespace",
            State::Covered("the cgroup hooks".into()),
            "shared with the agent; the hooks decide every flow",
        ),
        Measure::enforced(
            "root",
            format!("{} listed paths, the root read-only", plan.binds.len()),
        ),
        Measure::enforced(
            "workdir",
            format!("{}, nosuid, nodev, noexec", space(plan.workdir)),
        ),
        Measure::enforced("tmp", format!("{}, nosuid, nodev, noexec", space(plan.tmp))),
        Measure::enforced("procfs", masked(plan)),
        Measure::new(
            "procfs_net",
            State::Missing(
                "`/proc/<pid>/net` of a worker's own processes can not be covered: it lists \
                 the sockets of the network namespace that it shares with the host"
                    .into(),
            ),
            "read only",
        ),
        Measure::new(
            "abstract_names",
            State::Missing(
                "a worker can take an abstract name of the network namespace that it shares with \
                 the host: no layer judges the binding of one"
                    .into(),
            ),
            "it connects to none",
        ),
    ];
    measures.extend(plan.output.map(|output| {
        let detail = format!("{}, nosuid, nodev, noexec", space(output));
        Measure::enforced("output", detail)
    }));
    measures.extend(landlock(plan));
    measures.extend(process(plan, memory_counted));
    measures
}

/// What bounds unix sockets by name; `hooks` says whether the kernel judges each name too.
fn unix_sockets(plan: &Plan, hooks: bool) -> Measure {
    let doors: Vec<_> = plan
        .sockets
        .iter()
        .map(|socket| socket.path.display().to_string())
        .collect();
    let doors = if doors.is_empty() {
        "the policy names none".to_owned()
    } else {
        doors.join(" ")
    };
    let state = if let Some(folders) = sockets::beneath(plan) {
        let why = format!("no layer keeps a session from sockets of the host's beneath {folders}");
        State::Missing(why.into())
    } else if hooks {
        State::Enforced
    } else {
        State::Covered("the root, the socket families, landlock's scopes".into())
    };
    Measure::new("unix_sockets", state, doors)
}

/// Whether a controller counts a session's memory; else each process gets `RLIMIT_DATA`.
pub(crate) fn memory_counted(limits: &[cgroup::Measure]) -> bool {
    limits
        .iter()
        .any(|limit| limit.name == "memory" && matches!(limit.by, MeasuredBy::Controller { .. }))
}

/// A limit of the session's cgroup, and what stands in where no controller counts.
fn limited(limit: &cgroup::Measure) -> Measure {
    match &limit.by {
        MeasuredBy::Controller { name, value } => {
            Measure::enforced(limit.name, format!("{name} controller: {value}"))
        }
        MeasuredBy::Missing { reason } if limit.name == "processes" => Measure::new(
            limit.name,
            State::Covered("limit_processes: the session's user is its own".into()),
            reason.clone(),
        ),
        MeasuredBy::Missing { reason } if limit.name == "memory" => Measure::new(
            limit.name,
            State::Missing(reason.clone().into()),
            "limit_data holds each process, not their sum",
        ),
        MeasuredBy::Missing { reason } => {
            Measure::new(limit.name, State::Missing(reason.clone().into()), "")
        }
    }
}

fn space(space: Space) -> String {
    let Space { size, inodes } = space;
    format!("{size} bytes, {inodes} inodes")
}

fn masked(plan: &Plan) -> String {
    let names = |by_mode: bool| {
        let masks = plan.masks.iter();
        let masks = masks.filter(|mask| (mask.by == Masked::Mode) == by_mode);
        let names = masks.filter_map(|mask| mask.path.file_name());
        names
            .map(|name| name.display().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!(
        "own processes only; covered: {}; closed by their mode: {}",
        names(false),
        names(true)
    )
}

fn landlock(plan: &Plan) -> Vec<Measure> {
    let abi = plan.landlock.abi;
    let mut measures: Vec<_> = LANDLOCK_RIGHTS
        .iter()
        .map(|(name, since, else_by)| {
            let state = if abi >= *since {
                State::Enforced
            } else {
                State::Covered((*else_by).into())
            };
            Measure::new(*name, state, format!("ABI {abi}, since {since}"))
        })
        .collect();
    let tcp = if plan.landlock.no_tcp {
        Measure::enforced("landlock_tcp", "no connect, no bind")
    } else {
        Measure::new(
            "landlock_tcp",
            State::Covered("the cgroup hooks".into()),
            if abi < ABI_TCP {
                format!("ABI {abi}, since {ABI_TCP}")
            } else {
                "left out: a later policy may widen egress, a ruleset can not".to_owned()
            },
        )
    };
    measures.push(tcp);
    measures
}

fn process(plan: &Plan, memory_counted: bool) -> Vec<Measure> {
    let instructions: usize = plan
        .filters
        .all()
        .map(super::seccomp::Filter::instructions)
        .sum();
    let filters = plan.filters.all().count();
    let mut measures = vec![
        Measure::enforced("capabilities", "none in any set, securebits locked"),
        Measure::enforced("no_new_privs", ""),
        Measure::enforced(
            "system_calls",
            format!("{filters} filters, {instructions} instructions"),
        ),
        Measure::enforced("keyring", "an empty one of its own"),
        Measure::enforced("descriptors", "standard input, output and error only"),
        Measure::enforced(
            "death_signal",
            "ends with process 1, which ends with the agent",
        ),
        if plan.memfd_noexec {
            Measure::enforced("memory_files", "vm.memfd_noexec=2 in its pid namespace")
        } else {
            Measure::new(
                "memory_files",
                State::Covered("no memfd_create".into()),
                "this kernel can not make them non-executable",
            )
        },
    ];
    measures.push(core_dumps(plan));
    for limit in &plan.limits {
        let name = match limit.limited {
            Limited::OpenFiles => "limit_open_files",
            Limited::Processes => "limit_processes",
            Limited::Data => "limit_data",
            Limited::Core => "limit_core",
            Limited::LockedMemory => "limit_locked_memory",
            Limited::QueuedSignals => "limit_queued_signals",
            Limited::MessageQueues => "limit_message_queues",
            Limited::RealTime => "limit_real_time",
            Limited::Nice => "limit_nice",
            Limited::CpuTime => "limit_cpu_time",
        };
        let measure = if limit.limited == Limited::Data && memory_counted {
            Measure::new(
                name,
                State::Covered("the memory controller".into()),
                format!("{}", limit.value),
            )
        } else {
            Measure::enforced(name, format!("{} a process", limit.value))
        };
        measures.push(measure);
    }
    measures
}

/// No file is ever written. A program of the host's is kept out by a limit that any process may lower.
fn core_dumps(plan: &Plan) -> Measure {
    if !plan.core_handler {
        return Measure::enforced("core_dumps", "none");
    }
    let why = "a worker that lowers its limit to 0 and crashes starts the host's program of \
               `kernel.core_pattern`";
    let told = "which is handed no memory of it";
    Measure::new("core_dumps", State::Missing(why.into()), told)
}

#[cfg(test)]
mod tests {
    use landlock::{ABI, Access as _, AccessFs, AccessNet, Scope};

    use super::LANDLOCK_RIGHTS;
    use crate::sandbox::landlock::ABI_TCP;

    /// A right that a new ABI brings must not be taken for granted: it has a row, or it is TCP's.
    #[test]
    fn every_right_of_every_abi_is_accounted_for() {
        for (old, new) in (0..9).zip(1..=9) {
            let (old, abi) = (ABI::from(old), ABI::from(new));
            let files = AccessFs::from_all(abi) & !AccessFs::from_all(old);
            let net = AccessNet::from_all(abi) & !AccessNet::from_all(old);
            let scopes = Scope::from_all(abi) & !Scope::from_all(old);
            let row = LANDLOCK_RIGHTS.iter().any(|(_, since, _)| *since == new);
            let brings = !files.is_empty() || !scopes.is_empty();
            assert_eq!(row, brings, "ABI {new}: {files:?} {scopes:?}");
            assert_eq!(!net.is_empty(), new == ABI_TCP, "ABI {new}: {net:?}");
        }
        for (name, since, else_by) in LANDLOCK_RIGHTS {
            assert_eq!(else_by.is_empty(), *since == 1, "{name}");
        }
    }
}
