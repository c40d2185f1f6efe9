//! The worker's `/proc`: a full procfs of its own pid namespace, because runtimes read `meminfo`,
//! `cpuinfo` and the like, with covers over what tells of the host or steers it.
//!
//! An entry whose mode gives nobody but root anything needs no cover: no worker has the kernel's uid 0
//! or a capability, and none ever gets one. A cover costs a launch some microseconds.
//!
//! What can not be covered: `net` of each process. It appears with the process and no mount can be
//! there beforehand; it shows the sockets of the network namespace that workers share with the host.
//! Nor can landlock: its rules give rights below what could be opened beforehand and take none away
//! further down, and without `/proc` itself no later process would have its own `maps` or `status`.

use std::{
    fs::{self, Metadata},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

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

/// Rights of those who are neither owner nor group.
const OTHERS: u32 = 0o007;

/// An entry of the list that this kernel has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mask {
    /// Its path.
    pub path: PathBuf,
    /// What keeps a worker away from it.
    pub by: Masked,
}

/// What keeps a worker away from an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Masked {
    /// The null device lies over the file.
    File,
    /// An empty folder without rights lies over the folder.
    Folder,
    /// It is root's, and for root only.
    Mode,
}

/// The entries of the list that `procfs`, the host's, has.
#[must_use]
pub fn masks(procfs: &Path) -> Vec<Mask> {
    MASKS
        .iter()
        .filter_map(|name| {
            let found = fs::metadata(procfs.join(name)).ok()?;
            Some(Mask {
                path: Path::new("/proc").join(name),
                by: masked(&found),
            })
        })
        .collect()
}

fn masked(entry: &Metadata) -> Masked {
    if entry.uid() == 0 && entry.gid() == 0 && entry.permissions().mode() & OTHERS == 0 {
        Masked::Mode
    } else if entry.is_dir() {
        Masked::Folder
    } else {
        Masked::File
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{Masked, masks};

    #[test]
    fn what_others_may_touch_is_covered() {
        let procfs = tempfile::tempdir().expect("a folder");
        for (name, mode) in [("kmsg", 0o400), ("keys", 0o444), ("mtrr", 0o602)] {
            let path = procfs.path().join(name);
            fs::write(&path, "").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        }
        fs::create_dir(procfs.path().join("sys")).expect("a folder");
        let found = masks(procfs.path());
        let found: Vec<_> = found
            .iter()
            .map(|mask| (mask.path.to_str().expect("a name"), mask.by))
            .collect();
        let expected = [
            ("/proc/keys", Masked::File),
            ("/proc/kmsg", Masked::Mode),
            ("/proc/mtrr", Masked::File),
            ("/proc/sys", Masked::Folder),
        ];
        assert_eq!(found, expected);
    }
}
