//! What can go wrong between the agent and the kernel.

use std::{io, path::PathBuf};

use common::id::{PolicyId, SessionId};

/// An error of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("kernel programs: only root may load them\nhint: run as root, or with `sudo`")]
    NotRoot,
    /// No cgroup v2 hierarchy.
    #[error(
        "cgroup v2: no hierarchy is mounted\n\
         hint: `mount -t cgroup2 none /sys/fs/cgroup/unified`, or boot with \
         `systemd.unified_cgroup_hierarchy=1`"
    )]
    NoCgroup2,
    /// The service manager has delegated no cgroup.
    #[error(
        "cgroup: `{unit}` does not run, so there is none for sessions\nhint: `systemctl start {unit}`"
    )]
    NotDelegated {
        /// The unit that lacks.
        unit: String,
    },
    /// The parent cgroup is too deep.
    #[error(
        "cgroup `{}`: {level} levels below the root; session cgroups may lie at most {max} deep",
        path.display()
    )]
    TooDeep {
        /// The parent.
        path: PathBuf,
        /// Its depth.
        level: u32,
        /// How deep sessions may lie.
        max: i32,
    },
    /// A file of a cgroup could not be read or written.
    #[error("cgroup `{}`: {action} failed: {source}", path.display())]
    Cgroup {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup can not get hooks of its own.
    #[error("cgroup `{}`: {why}", path.display())]
    Unfit {
        /// The cgroup.
        path: PathBuf,
        /// Why.
        why: super::outpost::Unfit,
    },
    /// A cgroup was still in use after it was killed.
    #[error("cgroup `{}`: still in use {seconds} s after it was killed", path.display())]
    CgroupBusy {
        /// The folder.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// bpffs could not be mounted, or a folder on it not be made.
    #[error("pins: `{}`: {action} failed: {source}", path.display())]
    Pin {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The object was not accepted as a whole.
    #[error(
        "kernel object: {message}\nhint: `stockade doctor` names what this kernel ({release}) lacks"
    )]
    Object {
        /// aya's account.
        message: String,
        /// Kernel release.
        release: String,
    },
    /// A program was not accepted.
    #[error(
        "kernel program `{hook}`: refused by kernel {release}: {message}\n\
         hint: `stockade doctor` names what this kernel lacks"
    )]
    Program {
        /// Which hook.
        hook: &'static str,
        /// aya's account, with the end of the verifier's log.
        message: String,
        /// Kernel release.
        release: String,
    },
    /// The object has no such program or map: it was not built from this source.
    #[error(
        "kernel object: `{name}` is missing in it\nhint: `cargo xtask build`, then build the agent again"
    )]
    Missing {
        /// Program or map.
        name: &'static str,
    },
    /// A pinned map has another form.
    #[error("map `{name}`: {source}")]
    Map {
        /// Which map.
        name: &'static str,
        /// What is wrong.
        source: io::Error,
    },
    /// A map is full.
    #[error("map `{name}`: full ({capacity} entries)\nhint: fewer rules, policies or sessions")]
    Full {
        /// Which map.
        name: &'static str,
        /// How many fit.
        capacity: u32,
    },
    /// A hook could not be attached.
    #[error("hook `{hook}`: {action} failed: {source}")]
    Attach {
        /// Which hook.
        hook: &'static str,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A policy id beyond the table, 0, or twice.
    #[error("policy {0}: not a free slot of the policy table (1 to {max})", max = common::limits::POLICIES_MAX - 1)]
    PolicySlot(PolicyId),
    /// A policy is not in force.
    #[error("policy {0}: not in force")]
    PolicyNotInForce(PolicyId),
    /// Somebody took a hook off.
    #[error(
        "hooks: severed from the workers' cgroup, so nothing is admitted\nhint: `stockade status` names them; restart the agent to attach them again"
    )]
    Severed,
    /// A session id is 0 or in use.
    #[error("session {0}: the id is 0 or in use")]
    SessionId(SessionId),
    /// A port that any program may bind.
    #[error(
        "resolver port {0}: any program may bind it\nhint: a port below {end}",
        end = super::RESOLVER_PORT_END
    )]
    ResolverPort(u16),
    /// Sockets could not be listed or destroyed.
    #[error("sock_diag: {action} failed: {source}")]
    Diag {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A network namespace could not be asked.
    #[error("network namespace: {action} failed: {source}")]
    Netns {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The addresses of this host could not be read or watched.
    #[error("addresses of this host: {action} failed: {source}")]
    Addresses {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A ring could not be opened or waited for.
    #[error("ring `{name}`: {message}")]
    Ring {
        /// Which ring.
        name: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A thread could not be started.
    #[error("thread `{name}`: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether an element was to be new and was not.
    pub(in crate::kernel) fn is_existing(&self) -> bool {
        matches!(self, Self::Map { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
    }
}
