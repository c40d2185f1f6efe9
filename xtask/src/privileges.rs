//! Which privileges this process has: the integration tests make namespaces, cgroups and programs.

use std::fs;

use anyhow::bail;

/// The capabilities that the lab and the agent need, by their numbers in `capability.h`.
const NEEDED: [(u32, &str, &str); 8] = [
    (0, "CAP_CHOWN", "give workdirs to workers"),
    (
        1,
        "CAP_DAC_OVERRIDE",
        "write below /sys/fs/cgroup and /sys/fs/bpf",
    ),
    (5, "CAP_KILL", "end workers"),
    (6, "CAP_SETGID", "start workers under their own gid"),
    (7, "CAP_SETUID", "start workers under their own uid"),
    (
        12,
        "CAP_NET_ADMIN",
        "make the lab's network, destroy sockets",
    ),
    (21, "CAP_SYS_ADMIN", "make namespaces, mounts and cgroups"),
    (39, "CAP_BPF", "load programs into the kernel"),
];

/// Whether the effective user is root.
pub(crate) fn is_root() -> bool {
    field("Uid:").and_then(|ids| ids.split_whitespace().nth(1).map(|id| id == "0")) == Some(true)
}

/// What lacks, each with what it is for.
pub(crate) fn lacking() -> Vec<String> {
    let mut lacking = Vec::new();
    if !is_root() {
        lacking.push("root (the agent runs as root)".to_owned());
    }
    let effective = field("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let effective = effective.unwrap_or(0);
    lacking.extend(
        NEEDED
            .iter()
            .filter(|(number, ..)| effective & (1 << number) == 0)
            .map(|(_, name, purpose)| format!("{name} ({purpose})")),
    );
    if !fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| mounts.contains(" cgroup2 ")) {
        lacking.push("a mounted cgroup2 file system (fences hang on cgroups)".to_owned());
    }
    lacking
}

/// An error that names what lacks, for the verbs that run workers.
pub(crate) fn demand() -> anyhow::Result<()> {
    let lacking = lacking();
    if !lacking.is_empty() {
        bail!(
            "this process lacks {}\nhint: run it as root",
            lacking.join(", ")
        );
    }
    Ok(())
}

fn field(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::to_owned)
}
