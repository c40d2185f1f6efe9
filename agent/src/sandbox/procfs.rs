//! The worker's `/proc`: a full procfs of its own pid namespace, because runtimes read `meminfo`,
//! `cpuinfo` and the like, with covers over what tells of the host or steers it.
//!
//! What can not be covered: `net` of each process. It appears with the process and no mount can be
//! there beforehand; it shows the sockets of the network namespace that workers share with the host.
//! Nor can landlock: its rules give rights below what could be opened beforehand and take none away
//! further down, and without `/proc` itself no later process would have its own `maps` or `status`.

use std::path::{Path, PathBuf};

/// Entries that are covered where the kernel has them.
const MASKS: &[&str] = &[
    "acpi",
    "asound",
    "bootconfig",
    "buddyinfo",
    "bus",
    "cmdline",
    "config.gz",
    "consoles",
    "diskstats",
    "dma",
    "driver",
    "dynamic_debug",
    "execdomains",
    "fb",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "locks",
    "mdstat",
    "misc",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "pressure",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "swaps",
    "sys",
    "sysrq-trigger",
    "sysvipc",
    "timer_list",
    "tty",
    "vmallocinfo",
    "zoneinfo",
];

/// Entries to cover that `procfs`, the host's, has.
#[must_use]
pub fn masks(procfs: &Path) -> Vec<PathBuf> {
    MASKS
        .iter()
        .filter(|name| procfs.join(name).exists())
        .map(|name| Path::new("/proc").join(name))
        .collect()
}
