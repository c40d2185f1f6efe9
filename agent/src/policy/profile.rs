//! Names of system calls in a policy: which exist, and which no policy may add to a fence.

use super::{
    reader::nearest,
    syscall_names::{NAMES, is_syscall_name},
};

/// Calls that would open the fence from inside, whatever the profile, with the reason.
const NEVER: &[(&str, &str)] = &[
    ("acct", ADMIN),
    ("add_key", KEYS),
    ("bpf", ADMIN),
    ("chroot", MOUNTS),
    (
        "clone3",
        "its flags can not be checked; libraries fall back to clone",
    ),
    ("delete_module", ADMIN),
    ("finit_module", ADMIN),
    ("fsconfig", MOUNTS),
    ("fsmount", MOUNTS),
    ("fsopen", MOUNTS),
    ("fspick", MOUNTS),
    ("init_module", ADMIN),
    ("io_uring_enter", RING),
    ("io_uring_register", RING),
    ("io_uring_setup", RING),
    ("ioperm", ADMIN),
    ("iopl", ADMIN),
    ("kcmp", OTHERS),
    ("kexec_file_load", ADMIN),
    ("kexec_load", ADMIN),
    ("keyctl", KEYS),
    ("mount", MOUNTS),
    ("mount_setattr", MOUNTS),
    ("move_mount", MOUNTS),
    ("name_to_handle_at", MOUNTS),
    ("open_by_handle_at", MOUNTS),
    ("open_tree", MOUNTS),
    ("open_tree_attr", MOUNTS),
    ("perf_event_open", ADMIN),
    ("pidfd_getfd", OTHERS),
    ("pivot_root", MOUNTS),
    ("process_madvise", OTHERS),
    ("process_vm_readv", OTHERS),
    ("process_vm_writev", OTHERS),
    ("ptrace", OTHERS),
    ("quotactl", ADMIN),
    ("quotactl_fd", ADMIN),
    ("reboot", ADMIN),
    ("request_key", KEYS),
    (
        "seccomp",
        "a filter of its own could answer for the agent's",
    ),
    ("setns", SPACES),
    ("swapoff", ADMIN),
    ("swapon", ADMIN),
    ("syslog", ADMIN),
    ("umount2", MOUNTS),
    ("unshare", SPACES),
    ("userfaultfd", "it widens races in the kernel"),
    ("vhangup", ADMIN),
];

const ADMIN: &str = "it administers the host";
const KEYS: &str = "keyrings are shared across fences";
const MOUNTS: &str = "it changes or goes around the built root";
const OTHERS: &str = "it reaches into other processes";
const RING: &str = "its requests pass no filter";
const SPACES: &str = "it leaves the fence's namespaces";

/// A name that a list of system calls can not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Linux has no such call.
    #[error("`{0}` is no system call")]
    Unknown(String),
    /// No policy may add it.
    #[error("`{name}` can not be allowed: {reason}")]
    Never {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

impl NameError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown(name) => nearest(name, NAMES.iter().copied()).map_or_else(
                || "`man 2 syscalls` lists them".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            ),
            Self::Never { .. } => "drop it: no profile has it".to_owned(),
        }
    }
}

/// Whether a name may stand in `syscalls.deny`.
pub(super) fn known(name: &str) -> Result<(), NameError> {
    if is_syscall_name(name) {
        Ok(())
    } else {
        Err(NameError::Unknown(name.to_owned()))
    }
}

/// Whether a name may stand in `syscalls.allow`.
pub(super) fn allowable(name: &str) -> Result<(), NameError> {
    known(name)?;
    match NEVER.iter().find(|(never, _)| *never == name) {
        Some((_, reason)) => Err(NameError::Never {
            name: name.to_owned(),
            reason,
        }),
        None => Ok(()),
    }
}
