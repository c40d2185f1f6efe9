//! What each policy would lose on this host: the measures of its fence that nothing here can put up,
//! and what stands in for others.

use super::host::{Check, State};
use crate::{
    config::Instance,
    daemon::told,
    kernel::cgroup,
    policy::{compiled::CompiledPolicy, store::PolicySet},
    sandbox::{self, Enforced, Plan},
};

/// What to do about measures that are missing, by name; the rest is told by the host's own checks.
const FIXES: &[(&str, &str)] = &[
    (
        "memory",
        "boot with systemd.unified_cgroup_hierarchy=1: until then each process is limited, not their sum",
    ),
    (
        "cpus",
        "boot with systemd.unified_cgroup_hierarchy=1, or set `limits.cpu_time`, which needs no controller",
    ),
    (
        "core_dumps",
        "set the sysctl kernel.core_pattern to a file's name, such as `core`: until then a worker can start the program that stands there by crashing",
    ),
    (
        "disks",
        "boot with systemd.unified_cgroup_hierarchy=1, or leave `filesystem.write` empty: the workdir is no disk",
    ),
];
/// No host has them: the network namespace is shared, and the record of each session says so.
const NOWHERE: &[&str] = &["procfs_net", "abstract_names"];

/// A row for each policy.
pub(super) fn checks(instance: &Instance, parent: &cgroup::Parent, set: &PolicySet) -> Vec<Check> {
    let policies = set.iter();
    policies
        .map(|policy| check(instance, parent, policy))
        .collect()
}

fn check(instance: &Instance, parent: &cgroup::Parent, policy: &CompiledPolicy) -> Check {
    let name = format!("policy {}", policy.tool);
    let plan = match Plan::new(instance, policy) {
        Ok(plan) => plan,
        Err(error) => {
            let fix = "until then nothing of it is launched";
            return Check::gap(name, State::Weaker, told(&error), fix);
        }
    };
    let measures = Enforced::planned(&plan, &parent.measures(&policy.limits));
    let missing: Vec<_> = measures
        .iter()
        .filter(|measure| matches!(measure.state, sandbox::State::Missing(_)))
        .filter(|measure| !NOWHERE.contains(&measure.name.as_ref()))
        .map(|measure| measure.name.as_ref())
        .collect();
    let covered = measures
        .iter()
        .filter(|measure| matches!(measure.state, sandbox::State::Covered(_)))
        .count();
    let enforced = measures.len().saturating_sub(missing.len());
    if missing.is_empty() {
        let detail = format!("{enforced} measures, {covered} of them by another layer");
        return Check::ok(name, detail);
    }
    let fixes: Vec<_> = FIXES
        .iter()
        .filter(|(measure, _)| missing.contains(measure))
        .map(|(measure, fix)| format!("{measure}: {fix}"))
        .collect();
    let detail = format!("loses {}", missing.join(", "));
    Check::gap(name, State::Weaker, detail, &fixes.join("; "))
}
