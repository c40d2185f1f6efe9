//! What the agent takes from itself, once its launcher runs and before it has a second thread: each
//! later thread inherits it, and no worker does. Which files the agent writes is listed here.
//!
//! | measure | what is left |
//! |---|---|
//! | capabilities | those of [`KEPT`], in every set and in the bounding set |
//! | `no_new_privs` | set |
//! | landlock | writing beneath the instance's folders; executing nothing; reading as before |
//! | seccomp | all but the calls of [`DENIED`], in every ABI of the machine |

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use landlock::{ABI, AccessFs, BitFlags};
use libc::c_long;
use nix::{fcntl::OFlag, sys::prctl};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::{Prepared, setup::Ending};
use crate::{
    config::{Audit, Instance, Keeper},
    kernel::{self, cgroup},
    sys::{
        credentials,
        landlock::{Handled, abi, add_rule, new_rules, restrict},
        process::SingleThreaded,
    },
};

/// Capabilities that stay (`linux/capability.h`), each with what it is for.
const KEPT: &[(u32, &str)] = &[
    (0, "chown: sockets and folders get their group"),
    (1, "dac_override: run and state folders of other modes"),
    (
        2,
        "dac_read_search: programs and roots of workers are summed",
    ),
    (3, "fowner: modes of sockets"),
    (5, "kill: workers have other users"),
    (6, "setgid: the broker's socket is made with its group"),
    (10, "net_bind_service: the resolver's port is below 1024"),
    (12, "net_admin: hooks; sockets are destroyed"),
    (
        21,
        "sys_admin: a socket is destroyed in its own network namespace",
    ),
    (
        38,
        "perfmon: the verifier lets the programs compare pointers",
    ),
    (39, "bpf: programs and maps"),
];

/// System calls that the agent never makes: they change the host, look into other processes, or start
/// a program.
const DENIED: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Bit of an x32 call's number: the same calls by another name.
#[cfg(target_arch = "x86_64")]
const X32_BIT: c_long = 0x4000_0000;
/// State is the agent's alone.
const STATE_MODE: u32 = 0o700;

/// The agent can not give up what it has to give up.
#[derive(Debug, thiserror::Error)]
#[error("agent: can not confine itself: {step}")]
pub struct ConfineError {
    step: &'static str,
    source: io::Error,
}

/// Confines this process. Wants that it has one thread, and root's privileges. `policies`: their
/// folder, into which pushed ones are written; `kept`: where checkpoints are kept.
pub fn confine(
    instance: &Instance,
    policies: &Path,
    kept: &Audit,
    prepared: &Prepared,
    ending: Ending,
) -> Result<(), super::StartError> {
    let failed = |step| move |source| ConfineError { step, source };
    let _one = SingleThreaded::prove().map_err(failed("its threads"))?;
    // Made while they still can be: beneath them the agent may write, above them not.
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(STATE_MODE);
    let made = folder.create(instance.state_folder());
    made.map_err(failed("its state folder"))?;
    kernel::prepare_pins(instance)?;
    let mut rules = Rules::of(instance, &prepared.parent, ending).map_err(failed("landlock"))?;
    rules.policies(policies);
    rules
        .kept(kept)
        .map_err(failed("where a checkpoint is to be kept"))?;
    restrain(&rules)?;
    Ok(())
}

/// Confines this thread and all that it starts.
fn restrain(rules: &Rules) -> Result<(), ConfineError> {
    let failed = |step| move |source| ConfineError { step, source };
    let kept = KEPT
        .iter()
        .fold(0, |set, (number, _)| set | 1_u64 << number);
    let filter = filter().map_err(failed("seccomp"))?;
    credentials::keep_capabilities(kept).map_err(failed("capabilities"))?;
    let privileges = prctl::set_no_new_privs().map_err(io::Error::from);
    privileges.map_err(failed("no_new_privs"))?;
    rules.enforce().map_err(failed("landlock"))?;
    let installed = seccompiler::apply_filter(&filter).map_err(io::Error::other);
    installed.map_err(failed("seccomp"))
}

/// Paths and what may be written there.
struct Rules {
    abi: ABI,
    paths: Vec<(PathBuf, BitFlags<AccessFs>)>,
}

impl Rules {
    fn of(instance: &Instance, parent: &cgroup::Parent, ending: Ending) -> io::Result<Self> {
        let abi = ABI::from(abi()?);
        let write = written(abi)
            & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
        let folders = [
            instance.run_folder(),
            instance.state_folder(),
            instance.pin_root(),
            parent.path().to_owned(),
        ];
        let mut paths: Vec<_> = match ending {
            Ending::Keep => Vec::new(),
            // They go themselves at the end.
            Ending::Remove => folders
                .iter()
                .filter_map(|folder| folder.parent())
                .map(|above| (above.to_owned(), AccessFs::RemoveDir.into()))
                .collect(),
        };
        paths.extend(folders.map(|folder| (folder, write)));
        paths.push(("/dev/null".into(), AccessFs::WriteFile.into()));
        Ok(Self { abi, paths })
    }

    /// Files beneath the folder of policies. Where there is none yet nothing can be pushed until the next
    /// start.
    fn policies(&mut self, folder: &Path) {
        if folder.is_dir() {
            let write = AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir;
            self.paths
                .push((folder.to_owned(), write & written(self.abi)));
        }
    }

    /// Files beneath the folders in which checkpoints are kept. They must be there: what is mounted
    /// there later could not be written.
    fn kept(&mut self, audit: &Audit) -> io::Result<()> {
        for keeper in &audit.keepers {
            let Keeper::File(path) = keeper else {
                continue;
            };
            let folder = path.parent().unwrap_or(Path::new("/"));
            if !folder.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("`{}` is no folder", folder.display()),
                ));
            }
            let write =
                AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
            self.paths
                .push((folder.to_owned(), write & written(self.abi)));
        }
        Ok(())
    }

    fn enforce(&self) -> io::Result<()> {
        let rules = new_rules(Handled {
            files: written(self.abi).bits(),
            network: 0,
            scopes: 0,
        })?;
        for (path, rights) in &self.paths {
            add_rule(&rules, open(path)?, rights.bits())?;
        }
        restrict(&rules)
    }
}

/// Every way to write that this kernel knows, and executing.
fn written(abi: ABI) -> BitFlags<AccessFs> {
    AccessFs::from_write(abi) | AccessFs::Execute
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    options.custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits());
    options.open(path)
}

fn filter() -> io::Result<BpfProgram> {
    #[cfg(target_arch = "x86_64")]
    let numbers = DENIED.iter().flat_map(|call| [*call, *call | X32_BIT]);
    #[cfg(not(target_arch = "x86_64"))]
    let numbers = DENIED.iter().copied();
    let rules: BTreeMap<_, _> = numbers.map(|call| (call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
    let filter = filter.map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
