//! Landlock: a second judge over every path, beside the built root, at the kernel's own ABI.
//!
//! Every file right that the ABI knows is handled, so what no rule gives is refused. Rules bind to
//! inodes: those of the policy's root are made ready once, those of a session's own file systems for
//! each. A right that a kernel lacks is covered elsewhere:
//!
//! | right | since ABI | else |
//! |---|---|---|
//! | refer | 2 | always refused by ABI 1 |
//! | truncate | 3 | read-only mounts |
//! | TCP | 4 | the cgroup hooks decide, whether or not landlock knows TCP |
//! | device ioctl | 5 | seccomp's list of ioctls |
//! | abstract sockets, signals | 6 | no `socket(AF_UNIX)`, no unix doors; own pid namespace and uid |
//! | pathname sockets | 9 | the root holds the named sockets only, the kernel's hook judges names; no `socket(AF_UNIX)` without them |

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use landlock::{ABI, Access as _, AccessFs, AccessNet, BitFlags, Scope};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::{
    error::{At, Step, StepError},
    plan::{Access, Bind, TMPDIR, WORKDIR},
    sockets::Socket,
};
use crate::sys::landlock::{Handled, add_rule, new_rules};

/// The process list; each session's own.
pub(super) const PROC: &str = "/proc";
/// Paths whose file systems are the session's own: their rules are made for each session.
const SESSION_PATHS: &[&str] = &[PROC, WORKDIR, TMPDIR];

/// ABI with scopes.
pub const ABI_SCOPES: i32 = 6;
/// ABI with TCP rights.
pub const ABI_TCP: i32 = 4;

/// ABI that knows pathname sockets.
pub const ABI_UNIX: i32 = 9;

/// What may be done beneath a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Grant {
    /// Read files and list folders.
    Read,
    /// And execute.
    Execute,
    /// And write, not execute.
    Write,
    /// Read and write what is there, add nothing: devices.
    Device,
    /// Connect: a unix socket that the policy names.
    Door,
}

/// The rules of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The kernel's ABI.
    pub abi: i32,
    /// No TCP at all. Only where the policy has no egress rule: a ruleset in force can not be
    /// widened by a later push.
    pub no_tcp: bool,
    /// Paths and what is granted beneath.
    pub rules: Vec<(PathBuf, Grant)>,
}

impl Layer {
    pub(super) fn new(abi: i32, binds: &[Bind], doors: &[Socket], no_egress: bool) -> Self {
        let mut rules: Vec<_> = binds
            .iter()
            .map(|bind| (bind.path.clone(), grant(bind.access)))
            .collect();
        // Mounts are transparent to landlock: these cover what is bound beneath them as well.
        rules.push(("/dev".into(), Grant::Device));
        rules.push(("/etc".into(), Grant::Read));
        rules.push((PROC.into(), Grant::Read));
        rules.push((WORKDIR.into(), Grant::Write));
        rules.push((TMPDIR.into(), Grant::Write));
        // Before it there is no right to connect to a name, and a rule must grant something.
        if abi >= ABI_UNIX {
            rules.extend(doors.iter().map(|door| (door.path.clone(), Grant::Door)));
        }
        Self {
            abi,
            no_tcp: no_egress && abi >= ABI_TCP,
            rules,
        }
    }

    /// Whether abstract sockets and signals stop at the fence.
    #[must_use]
    pub fn scoped(&self) -> bool {
        self.abi >= ABI_SCOPES
    }

    /// Opens the paths of the rules, as this process sees them, but the session's own.
    pub fn open(&self) -> Result<Rules, StepError> {
        let abi = ABI::from(self.abi);
        let handled = Handled {
            files: AccessFs::from_all(abi).bits(),
            network: if self.no_tcp {
                AccessNet::from_all(abi).bits()
            } else {
                0
            },
            scopes: if self.scoped() {
                Scope::from_all(abi).bits()
            } else {
                0
            },
        };
        let mut opened = Vec::new();
        let mut own = Vec::new();
        for (path, grant) in &self.rules {
            if SESSION_PATHS.iter().any(|own| path == Path::new(own)) {
                own.push((path.clone(), rights(*grant, true, abi).bits()));
                continue;
            }
            let file = open(path)?;
            let folder = file
                .metadata()
                .at(Step::Landlock, path.display().to_string())?
                .is_dir();
            opened.push((file.into(), rights(*grant, folder, abi).bits()));
        }
        Ok(Rules {
            handled,
            opened,
            own,
        })
    }
}

/// The rules of a policy with their paths opened: what every session's set begins with.
#[derive(Debug)]
pub struct Rules {
    handled: Handled,
    opened: Vec<(OwnedFd, u64)>,
    own: Vec<(PathBuf, u64)>,
}

impl Rules {
    /// A new set with the rules that all sessions share.
    pub fn set(&self) -> Result<OwnedFd, StepError> {
        let set = new_rules(self.handled).at(Step::Landlock, "rules")?;
        for (file, rights) in &self.opened {
            add_rule(&set, file, *rights).at(Step::Landlock, "a rule")?;
        }
        Ok(set)
    }

    /// Adds to a set the rule for a folder of the session's own, of which `folder` is the root.
    pub fn add(&self, set: &OwnedFd, path: &str, folder: impl AsFd) -> Result<(), StepError> {
        for (own, rights) in &self.own {
            if own == Path::new(path) {
                add_rule(set, folder.as_fd(), *rights).at(Step::Landlock, path)?;
            }
        }
        Ok(())
    }

    /// Adds the rule for the session's process list, which is mounted by now.
    pub fn add_process_list(&self, set: &OwnedFd) -> Result<(), StepError> {
        let folder = open(Path::new(PROC))?;
        self.add(set, PROC, folder)
    }
}

fn open(path: &Path) -> Result<File, StepError> {
    File::options()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits())
        .open(path)
        .at(Step::Landlock, path.display().to_string())
}

fn grant(access: Access) -> Grant {
    match access {
        Access::Read => Grant::Read,
        Access::Execute => Grant::Execute,
        Access::Write => Grant::Write,
    }
}

fn rights(grant: Grant, folder: bool, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let rights = match grant {
        Grant::Read => read,
        Grant::Execute => read | AccessFs::Execute,
        Grant::Write => AccessFs::from_all(abi) & !never,
        Grant::Device => read | AccessFs::WriteFile,
        Grant::Door => AccessFs::from_all(abi) & AccessFs::ResolveUnix,
    };
    if folder {
        rights
    } else {
        rights & AccessFs::from_file(abi)
    }
}
