//! Calls that no profile has: those a policy may add, those it may not, and those that are answered
//! as if the kernel did not have them.

use super::{Call, calls};

/// Numbers from here on are newer than these tables: `ENOSYS`, so that programs fall back.
pub const NUMBERS_KNOWN: u32 = 470;

/// Answered `ENOSYS`: each has an older form that programs fall back to.
pub const ABSENT: &[Call] = calls! {
    SYS_clone3: "its flags are in memory, where no filter can read them; libc falls back to clone",
    SYS_io_uring_setup: "a second way into the kernel that no filter sees",
    SYS_io_uring_enter: "as io_uring_setup",
    SYS_io_uring_register: "as io_uring_setup",
    SYS_io_setup: "old asynchronous I/O; nothing needs it",
    SYS_io_destroy: "as io_setup",
    SYS_io_submit: "as io_setup",
    SYS_io_cancel: "as io_setup",
    SYS_io_getevents: "as io_setup",
    SYS_memfd_secret: "memory that the host can not see into",
};

/// A policy may add these: they weaken no promise, but few workers need them.
pub(super) const OPTIONAL: &[Call] = calls! {
    SYS_acct: "wants a capability that no worker has",
    SYS_adjtimex: "reads the clock's state; setting wants a capability",
    SYS_cachestat = 451: "what of a file is in memory",
    SYS_capset: "gives nothing without capabilities",
    SYS_clock_adjtime: "as adjtimex",
    SYS_file_getattr = 468: "attributes",
    SYS_fremovexattr: "extended attributes of own files",
    SYS_fsetxattr: "extended attributes of own files",
    SYS_kcmp: "compares own processes",
    SYS_listmount = 458: "the session's own mounts",
    SYS_lremovexattr: "extended attributes of own files",
    SYS_lsetxattr: "extended attributes of own files",
    SYS_lsm_get_self_attr = 459: "own labels",
    SYS_lsm_list_modules = 461: "the host's security modules, by name",
    SYS_migrate_pages: "memory of own processes",
    SYS_move_pages: "memory of own processes",
    SYS_mq_getsetattr: "own message queues",
    SYS_mq_notify: "own message queues",
    SYS_mq_open: "own message queues; the limit of their bytes is 0",
    SYS_mq_timedreceive: "own message queues",
    SYS_mq_timedsend: "own message queues",
    SYS_mq_unlink: "own message queues",
    SYS_pkey_alloc: "protection keys",
    SYS_pkey_free: "protection keys",
    SYS_pkey_mprotect: "protection keys",
    SYS_process_madvise: "memory of own processes",
    SYS_process_mrelease: "memory of own processes",
    SYS_ptrace: "debuggers, among the worker's own processes",
    SYS_remap_file_pages: "old form of mmap",
    SYS_removexattr: "extended attributes of own files",
    SYS_removexattrat = 466: "extended attributes of own files",
    SYS_seccomp: "programs that confine themselves further",
    SYS_set_mempolicy_home_node: "memory near a processor",
    SYS_setfsgid: "changes nothing without capabilities",
    SYS_setfsuid: "changes nothing without capabilities",
    SYS_setgid: "changes nothing without capabilities",
    SYS_setgroups: "changes nothing without capabilities",
    SYS_setregid: "changes nothing without capabilities",
    SYS_setresgid: "changes nothing without capabilities",
    SYS_setresuid: "changes nothing without capabilities",
    SYS_setreuid: "changes nothing without capabilities",
    SYS_setuid: "changes nothing without capabilities",
    SYS_setxattr: "extended attributes of own files",
    SYS_setxattrat = 463: "extended attributes of own files",
    SYS_statmount = 457: "the session's own mounts",
    SYS_sync: "flushes every file system of the host",
    SYS_vmsplice: "maps own pages into a pipe",
};

/// A policy can not add these: each is a way through or around a layer.
pub(super) const FENCE: &[Call] = calls! {
    SYS_add_key: "keys outlive the session",
    SYS_bpf: "programs in the kernel",
    SYS_chroot: "changes the root that the fence is built on",
    SYS_clock_settime: "the host's clock",
    SYS_delete_module: "kernel modules",
    SYS_fanotify_init: "watches other processes' files",
    SYS_fanotify_mark: "watches other processes' files",
    SYS_file_setattr = 469: "attributes that outlive the session",
    SYS_finit_module: "kernel modules",
    SYS_fsconfig: "mounts",
    SYS_fsmount: "mounts",
    SYS_fsopen: "mounts",
    SYS_fspick: "mounts",
    SYS_init_module: "kernel modules",
    SYS_kexec_file_load: "another kernel",
    SYS_kexec_load: "another kernel",
    SYS_keyctl: "keys outlive the session",
    SYS_lookup_dcookie: "paths of the host",
    SYS_lsm_set_self_attr = 460: "labels of security modules",
    SYS_mount: "mounts",
    SYS_mount_setattr: "mounts",
    SYS_move_mount: "mounts",
    SYS_name_to_handle_at: "file handles are good beyond the built root",
    SYS_nfsservctl: "obsolete",
    SYS_open_by_handle_at: "opens files beyond the built root",
    SYS_open_tree: "mounts",
    SYS_open_tree_attr = 467: "mounts",
    SYS_perf_event_open: "observes the kernel and other processes",
    SYS_pidfd_getfd: "takes descriptors from other processes",
    SYS_pivot_root: "mounts",
    SYS_process_vm_readv: "reads other processes' memory",
    SYS_process_vm_writev: "writes other processes' memory",
    SYS_quotactl: "the host's disk quota",
    SYS_quotactl_fd: "the host's disk quota",
    SYS_reboot: "the host",
    SYS_request_key: "asks the host's key agents",
    SYS_setdomainname: "the session's names",
    SYS_sethostname: "the session's names",
    SYS_setns: "enters other namespaces",
    SYS_settimeofday: "the host's clock",
    SYS_swapoff: "the host's memory",
    SYS_swapon: "the host's memory",
    SYS_syslog: "the host's kernel log",
    SYS_umount2: "mounts",
    SYS_unshare: "new namespaces, without the fence's hooks in mind",
    SYS_userfaultfd: "stops the kernel in the middle of a copy",
    SYS_vhangup: "terminals",
};

/// Calls of x86-64 alone that a policy may add.
#[cfg(target_arch = "x86_64")]
pub(super) const OPTIONAL_HERE: &[Call] = calls! {
    SYS_get_thread_area: "thread-local storage of 32-bit programs",
    SYS_set_thread_area: "thread-local storage of 32-bit programs",
    SYS_sysfs: "names of file systems",
    SYS_ustat: "old form of statfs",
};
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OPTIONAL_HERE: &[Call] = &[];

/// Calls of x86-64 alone that a policy can not add.
#[cfg(target_arch = "x86_64")]
pub(super) const FENCE_HERE: &[Call] = calls! {
    SYS__sysctl: "the kernel has no code for it any more",
    SYS_afs_syscall: "the kernel has no code for it",
    SYS_create_module = 174: "the kernel has no code for it any more",
    SYS_epoll_ctl_old: "the kernel has no code for it any more",
    SYS_epoll_wait_old: "the kernel has no code for it any more",
    SYS_get_kernel_syms = 177: "the kernel has no code for it any more",
    SYS_getpmsg: "the kernel has no code for it",
    SYS_io_pgetevents = 333: "old asynchronous I/O",
    SYS_ioperm: "the host's ports",
    SYS_iopl: "the host's ports",
    SYS_modify_ldt: "segments, a way into 16-bit code",
    SYS_putpmsg: "the kernel has no code for it",
    SYS_query_module = 178: "the kernel has no code for it any more",
    SYS_security: "the kernel has no code for it",
    SYS_tuxcall: "the kernel has no code for it",
    SYS_uretprobe = 335: "the kernel's own, for probes",
    SYS_uselib: "the kernel has no code for it any more",
    SYS_vserver: "the kernel has no code for it",
};
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FENCE_HERE: &[Call] = &[];
