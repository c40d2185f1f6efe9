//! What a session's cgroup is told of its policy's limits: which files, which values, and what no
//! controller of this host limits. Pure: it reads and writes nothing.

use super::{Measure, MeasuredBy};
use crate::policy::compiled::Limits;

/// Period of the processor quota, microseconds (the kernel's default).
const CPU_PERIOD_US: u64 = 100_000;
/// Process 1 of a session: it is the agent's, counts in the session's cgroup and under the session's user,
/// and takes none of the processes that a policy gives the worker.
pub const INIT_PROCESSES: u32 = 1;
/// A worker's share of a busy disk; 100 is everybody else's (cgroup-v2.rst, `io.weight`).
const IO_WEIGHT: u64 = 50;

/// A value for a file of a cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attribute {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Some kernels lack the file where they have the controller.
    pub(super) optional: bool,
}

/// What is to be written, in this order, and what each limit comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Attributes {
    pub(super) write: Vec<Attribute>,
    pub(super) measures: Vec<Measure>,
}

/// For a cgroup whose parent hands these controllers down.
pub(super) fn attributes(limits: &Limits, controllers: &[String]) -> Attributes {
    let mut all = Attributes::default();
    let mut limit = |name, controller: &'static str, files: &[(&'static str, String)]| {
        let by = match files.first() {
            Some((_, value)) if controllers.iter().any(|c| c == controller) => {
                all.write
                    .extend(files.iter().map(|(file, value)| Attribute {
                        file,
                        value: value.clone(),
                        optional: OPTIONAL.contains(file),
                    }));
                MeasuredBy::Controller {
                    name: controller,
                    value: value.clone(),
                }
            }
            Some(_) | None => MeasuredBy::Missing {
                reason: format!("the cgroup v2 hierarchy has no `{controller}` controller"),
            },
        };
        all.measures.push(Measure { name, by });
    };
    let memory = [
        ("memory.max", limits.memory.to_string()),
        // Swap would let a session take more; one victim is no use to the rest of it.
        ("memory.swap.max", "0".to_owned()),
        ("memory.zswap.max", "0".to_owned()),
        ("memory.oom.group", "1".to_owned()),
    ];
    limit("memory", "memory", &memory);
    let processes = limits.processes.saturating_add(INIT_PROCESSES);
    limit("processes", "pids", &[("pids.max", processes.to_string())]);
    let quota = u64::from(limits.cpus_milli) * CPU_PERIOD_US / 1_000;
    limit(
        "cpus",
        "cpu",
        &[("cpu.max", format!("{quota} {CPU_PERIOD_US}"))],
    );
    limit("disks", "io", &[("io.weight", IO_WEIGHT.to_string())]);
    all
}

/// Swap may be left out of a kernel; weights want a scheduler of disks that knows them.
const OPTIONAL: &[&str] = &[
    "memory.swap.max",
    "memory.zswap.max",
    "memory.oom.group",
    "io.weight",
];

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, time::Duration};

    use expect_test::{Expect, expect};

    use super::{super::MeasuredBy, attributes};
    use crate::policy::compiled::Limits;

    const LIMITS: Limits = Limits {
        memory: 64 << 20,
        processes: 8,
        cpus_milli: 1_500,
        open_files: 64,
        cpu_time: Duration::MAX,
        output: 1 << 20,
    };

    fn check(controllers: &[&str], expected: &Expect) {
        let controllers: Vec<_> = controllers.iter().map(|c| (*c).to_owned()).collect();
        let all = attributes(&LIMITS, &controllers);
        let mut text = String::new();
        for attribute in all.write {
            let optional = if attribute.optional {
                " (if it is there)"
            } else {
                ""
            };
            let (file, value) = (attribute.file, attribute.value);
            writeln!(text, "{file} = {value}{optional}").expect("text");
        }
        for measure in all.measures {
            let by = match measure.by {
                MeasuredBy::Controller { name, value } => format!("{name} {value}"),
                MeasuredBy::Missing { reason } => reason,
            };
            writeln!(text, "{}: {by}", measure.name).expect("text");
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn every_controller_is_told_its_limit() {
        check(
            &["cpuset", "cpu", "io", "memory", "pids"],
            &expect![[r"
                memory.max = 67108864
                memory.swap.max = 0 (if it is there)
                memory.zswap.max = 0 (if it is there)
                memory.oom.group = 1 (if it is there)
                pids.max = 9
                cpu.max = 150000 100000
                io.weight = 50 (if it is there)
                memory: memory 67108864
                processes: pids 9
                cpus: cpu 150000 100000
                disks: io 50
            "]],
        );
    }

    #[test]
    fn what_no_controller_limits_is_said() {
        check(
            &["pids"],
            &expect![[r"
                pids.max = 9
                memory: the cgroup v2 hierarchy has no `memory` controller
                processes: pids 9
                cpus: the cgroup v2 hierarchy has no `cpu` controller
                disks: the cgroup v2 hierarchy has no `io` controller
            "]],
        );
    }
}
