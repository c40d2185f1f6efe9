//! Landlock: a second judge over every path, beside the built root, at the kernel's own ABI.
//!
//! Every file right that the ABI knows is handled, so what no rule gives is refused. Rules bind to
//! inodes: they are made after the mounts. A right that a kernel lacks is covered elsewhere:
//!
//! | right | since ABI | else |
//! |---|---|---|
//! | refer | 2 | always refused by ABI 1 |
//! | truncate | 3 | read-only mounts |
//! | TCP | 4 | the cgroup hooks decide, whether or not landlock knows TCP |
//! | device ioctl | 5 | seccomp's list of ioctls |
//! | abstract sockets, signals | 6 | no `socket(AF_UNIX)`, no unix doors; own pid namespace and uid |
//! | pathname sockets | 9 | the root holds the named sockets only, the kernel's hook judges names; no `socket(AF_UNIX)` without them |

use std::{fs::File, path::PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt;

use super::{
    error::{At, Step, StepError},
    plan::{Access, Bind, TMPDIR, WORKDIR},
};

/// ABI with scopes.
pub const ABI_SCOPES: i32 = 6;
/// ABI with TCP rights.
pub const ABI_TCP: i32 = 4;

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
    pub(super) fn new(abi: i32, binds: &[Bind], no_egress: bool) -> Self {
        let mut rules: Vec<_> = binds
            .iter()
            .map(|bind| (bind.path.clone(), grant(bind.access)))
            .collect();
        // Mounts are transparent to landlock: these cover what is bound beneath them as well.
        rules.push(("/dev".into(), Grant::Device));
        rules.push(("/etc".into(), Grant::Read));
        rules.push(("/proc".into(), Grant::Read));
        rules.push((WORKDIR.into(), Grant::Write));
        rules.push((TMPDIR.into(), Grant::Write));
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

    /// Makes the rules for the paths as this process sees them.
    pub fn ruleset(&self) -> Result<RulesetCreated, StepError> {
        let abi = ABI::from(self.abi);
        let all = AccessFs::from_all(abi);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(all)
            .map_err(refused)?;
        if self.scoped() {
            ruleset = ruleset.scope(Scope::from_all(abi)).map_err(refused)?;
        }
        if self.no_tcp {
            ruleset = ruleset
                .handle_access(AccessNet::from_all(abi))
                .map_err(refused)?;
        }
        let mut created = ruleset.create().map_err(refused)?;
        for (path, grant) in &self.rules {
            let on = || path.display().to_string();
            let file = File::options()
                .read(true)
                .custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits())
                .open(path)
                .at(Step::Landlock, on())?;
            let folder = file.metadata().at(Step::Landlock, on())?.is_dir();
            let rights = rights(*grant, folder, abi);
            created = created
                .add_rule(PathBeneath::new(file, rights))
                .map_err(refused)?;
        }
        Ok(created)
    }
}

/// Puts the rules in force for this process.
pub fn enforce(ruleset: RulesetCreated) -> Result<(), StepError> {
    let status = ruleset.restrict_self().map_err(refused)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Err(StepError::new(
            Step::Landlock,
            format!("landlock: {:?} where all is required", status.ruleset),
        )),
    }
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
    };
    if folder {
        rights
    } else {
        rights & AccessFs::from_file(abi)
    }
}

fn refused(error: impl std::error::Error) -> StepError {
    StepError::new(Step::Landlock, format!("landlock: {error}"))
}
