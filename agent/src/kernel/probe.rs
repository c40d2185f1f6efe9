//! What this host has and lacks of what the kernel side needs, each with its fix.
//!
//! Hooks and helpers are not looked up in a table of versions: the programs are loaded, unpinned and
//! unattached, and the verifier says.

use std::{fs, io, path::Path};

use common::flow::{Address, TCP};

use super::{cgroup, load, pin};
use crate::{
    config::KernelLog,
    sys::{
        landlock, membarrier, netns,
        sock_diag::{Diag, Socket},
    },
};

/// The oldest kernel that the programs are tested on.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// How much depends on a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Without it nothing runs.
    Required,
    /// Without it a layer is weaker or slower; `detail` says which.
    Wanted,
}

/// One feature of this host.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Feature {
    /// What it is.
    pub name: String,
    /// How much depends on it.
    pub need: Need,
    /// Whether it is there.
    pub present: bool,
    /// What was found, or why it is missing.
    pub detail: String,
    /// What to do where it is missing.
    pub fix: &'static str,
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_errno| "unknown".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// Every feature. Takes some tenths of a second: it loads the programs. Leaves nothing behind.
#[must_use]
pub fn features() -> Vec<Feature> {
    let mut all = vec![kernel(), root(), cgroup_v2()];
    all.extend(controllers());
    all.extend([cgroup_kill(), bpffs(), jit(), btf()]);
    all.extend(hooks());
    all.extend([
        sock_destroy(),
        netns_cookie(),
        grace_period(),
        landlock_abi(),
    ]);
    all
}

fn required(name: &str, found: Result<String, String>, fix: &'static str) -> Feature {
    feature(name, Need::Required, found, fix)
}

fn wanted(name: &str, found: Result<String, String>, fix: &'static str) -> Feature {
    feature(name, Need::Wanted, found, fix)
}

fn feature(name: &str, need: Need, found: Result<String, String>, fix: &'static str) -> Feature {
    let present = found.is_ok();
    let (Ok(detail) | Err(detail)) = found;
    Feature {
        name: name.to_owned(),
        need,
        present,
        detail,
        fix,
    }
}

fn kernel() -> Feature {
    let release = release();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = if version >= OLDEST_KERNEL {
        Ok(release)
    } else {
        Err(format!("{release} is older than 6.1"))
    };
    required("kernel", found, "install Linux 6.1 or newer")
}

fn root() -> Feature {
    let found = if nix::unistd::geteuid().is_root() {
        Ok("effective uid 0".to_owned())
    } else {
        Err("programs can not be loaded: the checks below are incomplete".to_owned())
    };
    required("root", found, "run as root, or with `sudo`")
}

fn cgroup_v2() -> Feature {
    let found = cgroup::mount_point()
        .map(|path| format!("mounted at {}", path.display()))
        .map_err(|_none| "no hierarchy is mounted".to_owned());
    let fix = "`mount -t cgroup2 none /sys/fs/cgroup/unified`, or boot with \
               `systemd.unified_cgroup_hierarchy=1`";
    required("cgroup v2", found, fix)
}

fn controllers() -> Vec<Feature> {
    let available = cgroup::mount_point()
        .ok()
        .and_then(|mount| fs::read_to_string(mount.join("cgroup.controllers")).ok())
        .unwrap_or_default();
    let covered = [
        ("memory", "RLIMIT_DATA bounds each process, not the session"),
        ("pids", "RLIMIT_NPROC bounds the session's user"),
        ("cpu", "processor time is not bounded"),
    ];
    let one = |(name, instead): (&str, &str)| {
        let found = if available.split_whitespace().any(|word| word == name) {
            Ok("available on cgroup v2".to_owned())
        } else {
            Err(format!("not on cgroup v2: {instead}"))
        };
        let fix = "boot with `systemd.unified_cgroup_hierarchy=1` (and \
                   `cgroup_enable=memory` where the distribution turns it off)";
        wanted(&format!("controller {name}"), found, fix)
    };
    covered.into_iter().map(one).collect()
}

fn cgroup_kill() -> Feature {
    let found = match cgroup::mount_point() {
        // The root has no such file; every other cgroup has, or none.
        Ok(mount) => {
            let any = fs::read_dir(&mount).into_iter().flatten().flatten();
            let mut folders = any.filter(|entry| entry.path().is_dir());
            match folders.next() {
                Some(folder) if !folder.path().join("cgroup.kill").exists() => {
                    Err("cgroups have no `cgroup.kill`".to_owned())
                }
                _ => Ok("a session is killed in one step".to_owned()),
            }
        }
        Err(_none) => Err("no cgroup v2".to_owned()),
    };
    required("cgroup.kill", found, "install Linux 5.14 or newer")
}

fn bpffs() -> Feature {
    let found = match pin::is_bpffs_mounted() {
        Ok(true) => Ok("mounted at /sys/fs/bpf".to_owned()),
        Ok(false) => Ok("not mounted; the agent mounts it".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    required("bpffs", found, "mount sysfs at /sys")
}

fn jit() -> Feature {
    let found = match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Ok(text) if text.trim() == "0" => Err("programs are interpreted: slow".to_owned()),
        Ok(_) => Ok("on".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    wanted("bpf jit", found, "`sysctl net.core.bpf_jit_enable=1`")
}

fn btf() -> Feature {
    let found = if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Ok("/sys/kernel/btf/vmlinux".to_owned())
    } else {
        Err("the kernel describes no types; the programs do not need them".to_owned())
    };
    wanted("btf", found, "a kernel with CONFIG_DEBUG_INFO_BTF")
}

fn hooks() -> Vec<Feature> {
    const FIX: &str = "a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF, 6.1 or newer; under \
                       lockdown or in a container, the right to load programs";
    const OPTIONAL_FIX: &str = "install Linux 6.7 or newer; without it the worker's root, seccomp and \
                                landlock alone bound unix sockets";
    match load::try_each(KernelLog::Off) {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|tried| {
                let found = tried.outcome.map(|()| "the verifier accepts it".to_owned());
                let name = format!("hook {}", tried.hook);
                if tried.optional {
                    wanted(&name, found, OPTIONAL_FIX)
                } else {
                    required(&name, found, FIX)
                }
            })
            .collect(),
        Err(error) => vec![required("maps", Err(error.to_string()), FIX)],
    }
}

/// Asks to destroy a socket that does not exist: a kernel that can says that there is none.
fn sock_destroy() -> Feature {
    let nobody = Socket {
        family: 2,
        protocol: TCP,
        state: 0,
        local: Address::from_v4([127, 0, 0, 1]),
        local_port: 1,
        remote: Address::from_v4([127, 0, 0, 1]),
        remote_port: 1,
        device: 0,
        inode: 0,
        cookie: u64::MAX - 1,
        cgroup: None,
        storage: None,
    };
    let found = Diag::open()
        .and_then(|mut diag| diag.destroy(&nobody))
        .map(|_none| "available".to_owned())
        .map_err(|error| {
            format!("{error}: a connection that a new policy refuses stalls instead of ending")
        });
    let fix = "a kernel with CONFIG_INET_DIAG_DESTROY and CONFIG_INET_UDP_DIAG";
    required("SOCK_DESTROY", found, fix)
}

fn netns_cookie() -> Feature {
    let found = found(netns::cookie(), "SO_NETNS_COOKIE");
    required(
        "network namespace cookies",
        found,
        "install Linux 5.14 or newer",
    )
}

fn grace_period() -> Feature {
    let found = found(membarrier::global(), "membarrier");
    let fix = "none needed: old rules stay 200 ms longer";
    wanted("grace periods", found, fix)
}

fn landlock_abi() -> Feature {
    let found = match landlock::abi() {
        Ok(abi) => Ok(format!("ABI {abi}")),
        Err(error) => Err(error.to_string()),
    };
    let fix = "boot with `lsm=landlock,…`, on a kernel with CONFIG_SECURITY_LANDLOCK";
    required("landlock", found, fix)
}

fn found<T>(answer: io::Result<T>, name: &str) -> Result<String, String> {
    answer
        .map(|_value| format!("{name} answers"))
        .map_err(|error| format!("{name}: {error}"))
}
