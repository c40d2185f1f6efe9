//! Names of system calls in a policy: which exist, and which no policy may add to a fence.

use super::{
    reader::nearest,
    syscall_names::{is_syscall_name, names},
};

/// Calls that would open the fence from inside, whatever the profile, with the reason.
const NEVER: &[(&str, &str)] = &[
    ("_sysctl", "the kernel has no code for it any more"),
    ("add_key", "keys outlive the session"),
    ("afs_syscall", "the kernel has no code for it"),
    ("bpf", "programs in the kernel"),
    ("chroot", "changes the root that the fence is built on"),
    ("clock_settime", "the host's clock"),
    (
        "clone3",
        "its flags are in memory, where no filter can read them; libc falls back to clone",
    ),
    ("create_module", "the kernel has no code for it any more"),
    ("delete_module", "kernel modules"),
    ("epoll_ctl_old", "the kernel has no code for it any more"),
    ("epoll_wait_old", "the kernel has no code for it any more"),
    ("fanotify_init", "watches other processes' files"),
    ("fanotify_mark", "watches other processes' files"),
    ("file_setattr", "attributes that outlive the session"),
    ("finit_module", "kernel modules"),
    ("fsconfig", "mounts"),
    ("fsmount", "mounts"),
    ("fsopen", "mounts"),
    ("fspick", "mounts"),
    ("get_kernel_syms", "the kernel has no code for it any more"),
    ("getpmsg", "the kernel has no code for it"),
    ("init_module", "kernel modules"),
    ("io_cancel", "old asynchronous I/O; nothing needs it"),
    ("io_destroy", "old asynchronous I/O; nothing needs it"),
    ("io_getevents", "old asynchronous I/O; nothing needs it"),
    ("io_pgetevents", "old asynchronous I/O"),
    ("io_setup", "old asynchronous I/O; nothing needs it"),
    ("io_submit", "old asynchronous I/O; nothing needs it"),
    (
        "io_uring_enter",
        "a second way into the kernel that no filter sees",
    ),
    (
        "io_uring_register",
        "a second way into the kernel that no filter sees",
    ),
    (
        "io_uring_setup",
        "a second way into the kernel that no filter sees",
    ),
    ("ioperm", "the host's ports"),
    ("iopl", "the host's ports"),
    ("kexec_file_load", "another kernel"),
    ("kexec_load", "another kernel"),
    ("keyctl", "keys outlive the session"),
    ("lookup_dcookie", "paths of the host"),
    ("lsm_set_self_attr", "labels of security modules"),
    ("memfd_secret", "memory that the host can not see into"),
    ("modify_ldt", "segments, a way into 16-bit code"),
    ("mount", "mounts"),
    ("mount_setattr", "mounts"),
    ("move_mount", "mounts"),
    (
        "name_to_handle_at",
        "file handles are good beyond the built root",
    ),
    ("nfsservctl", "obsolete"),
    ("open_by_handle_at", "opens files beyond the built root"),
    ("open_tree", "mounts"),
    ("open_tree_attr", "mounts"),
    ("perf_event_open", "observes the kernel and other processes"),
    ("pidfd_getfd", "takes descriptors from other processes"),
    ("pivot_root", "mounts"),
    ("process_vm_readv", "reads other processes' memory"),
    ("process_vm_writev", "writes other processes' memory"),
    ("putpmsg", "the kernel has no code for it"),
    ("query_module", "the kernel has no code for it any more"),
    ("quotactl", "the host's disk quota"),
    ("quotactl_fd", "the host's disk quota"),
    ("reboot", "the host"),
    ("request_key", "asks the host's key agents"),
    ("security", "the kernel has no code for it"),
    ("setdomainname", "the session's names"),
    ("sethostname", "the session's names"),
    ("setns", "enters other namespaces"),
    ("settimeofday", "the host's clock"),
    ("swapoff", "the host's memory"),
    ("swapon", "the host's memory"),
    ("syslog", "the host's kernel log"),
    ("tuxcall", "the kernel has no code for it"),
    ("umount2", "mounts"),
    (
        "unshare",
        "new namespaces, without the fence's hooks in mind",
    ),
    ("uprobe", "the kernel's own, for probes"),
    ("uretprobe", "the kernel's own, for probes"),
    ("uselib", "the kernel has no code for it any more"),
    ("userfaultfd", "stops the kernel in the middle of a copy"),
    ("vhangup", "terminals"),
    ("vserver", "the kernel has no code for it"),
];

/// A name that a list of system calls can not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// No filter of this version can name it.
    #[error("`{0}` is no system call that this version knows")]
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
            Self::Unknown(name) => nearest(name, names()).map_or_else(
                || "drop it; what no list names is refused anyway".to_owned(),
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
    match never(name) {
        Some(reason) => Err(NameError::Never {
            name: name.to_owned(),
            reason,
        }),
        None => Ok(()),
    }
}

/// Why no policy may add this call, if none may.
pub fn never(name: &str) -> Option<&'static str> {
    let found = NEVER.iter().find(|(never, _)| *never == name);
    found.map(|(_, reason)| *reason)
}
