//! What the profiles are made of.

use super::{Call, calls};
use crate::policy::compiled::Profile;

/// The groups of a profile.
pub(super) fn of(profile: Profile) -> &'static [&'static [Call]] {
    match profile {
        Profile::Strict => STRICT,
        Profile::Default => DEFAULT,
        Profile::Interpreter => INTERPRETER,
    }
}

#[cfg(target_arch = "x86_64")]
const STRICT: &[&[Call]] = &[
    FILE, MEMORY, THREAD, EXECUTE, SIGNAL, TIME, WAIT, NETWORK, IDENTITY, OLD_STRICT,
];
#[cfg(not(target_arch = "x86_64"))]
const STRICT: &[&[Call]] = &[
    FILE, MEMORY, THREAD, EXECUTE, SIGNAL, TIME, WAIT, NETWORK, IDENTITY,
];
#[cfg(target_arch = "x86_64")]
const DEFAULT: &[&[Call]] = &[
    FILE,
    MEMORY,
    THREAD,
    EXECUTE,
    SIGNAL,
    TIME,
    WAIT,
    NETWORK,
    IDENTITY,
    OLD_STRICT,
    FILE_MORE,
    PROCESS,
    NETWORK_MORE,
    SELF_CONFINE,
    OLD_DEFAULT,
];
#[cfg(not(target_arch = "x86_64"))]
const DEFAULT: &[&[Call]] = &[
    FILE,
    MEMORY,
    THREAD,
    EXECUTE,
    SIGNAL,
    TIME,
    WAIT,
    NETWORK,
    IDENTITY,
    FILE_MORE,
    PROCESS,
    NETWORK_MORE,
    SELF_CONFINE,
];
#[cfg(target_arch = "x86_64")]
const INTERPRETER: &[&[Call]] = &[
    FILE,
    MEMORY,
    THREAD,
    EXECUTE,
    SIGNAL,
    TIME,
    WAIT,
    NETWORK,
    IDENTITY,
    OLD_STRICT,
    FILE_MORE,
    PROCESS,
    NETWORK_MORE,
    SELF_CONFINE,
    OLD_DEFAULT,
    RUNTIME,
];
#[cfg(not(target_arch = "x86_64"))]
const INTERPRETER: &[&[Call]] = &[
    FILE,
    MEMORY,
    THREAD,
    EXECUTE,
    SIGNAL,
    TIME,
    WAIT,
    NETWORK,
    IDENTITY,
    FILE_MORE,
    PROCESS,
    NETWORK_MORE,
    SELF_CONFINE,
    RUNTIME,
];

const FILE: &[Call] = calls! {
    SYS_chdir: "current folder",
    SYS_close: "descriptors",
    SYS_close_range: "descriptors, before an execution",
    SYS_dup: "descriptors",
    SYS_dup3: "descriptors",
    SYS_faccessat: "may a file be read",
    SYS_faccessat2: "may a file be read",
    SYS_fadvise64: "how a file will be read",
    SYS_fallocate: "room in a file",
    SYS_fchdir: "current folder",
    SYS_fchmod: "mode of own files",
    SYS_fchmodat: "mode of own files",
    SYS_fchmodat2: "mode of own files",
    SYS_fcntl: "descriptor flags, record locks",
    SYS_fdatasync: "data to disk",
    SYS_flock: "locks",
    SYS_fstat: "what a file is",
    SYS_fstatfs: "room on a file system",
    SYS_fsync: "data to disk",
    SYS_ftruncate: "length of own files",
    SYS_getcwd: "current folder",
    SYS_getdents64: "list a folder",
    SYS_ioctl: "what a descriptor is; by number",
    SYS_lseek: "position",
    SYS_mkdirat: "folders in the workdir",
    SYS_newfstatat: "what a file is",
    SYS_openat: "open",
    SYS_openat2: "open, without links",
    SYS_pipe2: "pipes",
    SYS_pread64: "read",
    SYS_preadv: "read",
    SYS_preadv2: "read",
    SYS_pwrite64: "write",
    SYS_pwritev: "write",
    SYS_pwritev2: "write",
    SYS_read: "read",
    SYS_readahead: "how a file will be read",
    SYS_readlinkat: "links",
    SYS_readv: "read",
    SYS_renameat: "rename in the workdir",
    SYS_renameat2: "rename in the workdir",
    SYS_sendfile: "copy between descriptors",
    SYS_statfs: "room on a file system",
    SYS_statx: "what a file is",
    SYS_symlinkat: "links in the workdir",
    SYS_truncate: "length of own files",
    SYS_umask: "mode of new files",
    SYS_unlinkat: "remove in the workdir",
    SYS_utimensat: "times of own files",
    SYS_write: "write",
    SYS_writev: "write",
};

const MEMORY: &[Call] = calls! {
    SYS_brk: "heap",
    SYS_madvise: "allocators",
    SYS_membarrier: "allocators, runtimes",
    SYS_mincore: "Go's start",
    SYS_mlock: "keys stay out of swap; limited",
    SYS_mlock2: "as mlock",
    SYS_mmap: "memory",
    SYS_mprotect: "the loader, guard pages",
    SYS_mremap: "allocators",
    SYS_mseal: "the loader seals what it mapped",
    SYS_msync: "mapped files",
    SYS_munlock: "as mlock",
    SYS_munmap: "memory",
};

const THREAD: &[Call] = calls! {
    SYS_clone: "threads and processes; no namespace flag",
    SYS_exit: "end of a thread",
    SYS_exit_group: "end of a process",
    SYS_futex: "locks",
    SYS_futex_requeue = 456: "locks",
    SYS_futex_wait = 455: "locks",
    SYS_futex_waitv: "locks",
    SYS_futex_wake = 454: "locks",
    SYS_get_robust_list: "locks of a dead thread",
    SYS_getcpu: "which processor",
    SYS_gettid: "own id",
    SYS_rseq: "libc's start",
    SYS_sched_getaffinity: "how many processors",
    SYS_sched_yield: "spin locks",
    SYS_set_robust_list: "libc's start",
    SYS_set_tid_address: "libc's start",
};

const EXECUTE: &[Call] = calls! {
    SYS_execve: "programs that the root holds",
    SYS_execveat: "the launcher's own last call; programs by descriptor",
    SYS_getrandom: "random bytes",
    SYS_prctl: "thread names; by option",
    SYS_prlimit64: "own limits",
    SYS_sysinfo: "memory and load",
    SYS_uname: "kernel version",
};

const SIGNAL: &[Call] = calls! {
    SYS_kill: "own processes: no other is visible",
    SYS_restart_syscall: "the kernel restarts a sleep with it",
    SYS_rt_sigaction: "handlers",
    SYS_rt_sigpending: "handlers",
    SYS_rt_sigprocmask: "handlers",
    SYS_rt_sigqueueinfo: "own processes",
    SYS_rt_sigreturn: "handlers",
    SYS_rt_sigsuspend: "handlers",
    SYS_rt_sigtimedwait: "handlers",
    SYS_rt_tgsigqueueinfo: "own threads",
    SYS_sigaltstack: "handlers",
    SYS_signalfd4: "event loops",
    SYS_tgkill: "own threads, abort",
    SYS_tkill: "own threads",
};

const TIME: &[Call] = calls! {
    SYS_clock_getres: "clocks",
    SYS_clock_gettime: "clocks",
    SYS_clock_nanosleep: "sleep",
    SYS_getitimer: "timers",
    SYS_getrusage: "own use",
    SYS_gettimeofday: "clocks",
    SYS_nanosleep: "sleep",
    SYS_setitimer: "timers",
    SYS_timer_create: "timers",
    SYS_timer_delete: "timers",
    SYS_timer_getoverrun: "timers",
    SYS_timer_gettime: "timers",
    SYS_timer_settime: "timers",
    SYS_timerfd_create: "event loops",
    SYS_timerfd_gettime: "event loops",
    SYS_timerfd_settime: "event loops",
    SYS_times: "own use",
};

const WAIT: &[Call] = calls! {
    SYS_epoll_create1: "event loops",
    SYS_epoll_ctl: "event loops",
    SYS_epoll_pwait: "event loops",
    SYS_epoll_pwait2: "event loops",
    SYS_eventfd2: "event loops",
    SYS_ppoll: "event loops",
    SYS_pselect6: "event loops",
};

const NETWORK: &[Call] = calls! {
    SYS_bind: "source address of a client; port 0, which the hooks see to",
    SYS_connect: "client; the hooks decide",
    SYS_getpeername: "client",
    SYS_getsockname: "client",
    SYS_getsockopt: "client",
    SYS_recvfrom: "client",
    SYS_recvmsg: "client",
    SYS_sendmsg: "client; the hooks decide",
    SYS_sendto: "client; the hooks decide",
    SYS_setsockopt: "client; by level and option",
    SYS_shutdown: "client",
    SYS_socket: "client; by family, type and protocol",
    SYS_socketpair: "unix streams",
};

const IDENTITY: &[Call] = calls! {
    SYS_getegid: "own ids",
    SYS_geteuid: "own ids",
    SYS_getgid: "own ids",
    SYS_getgroups: "own ids",
    SYS_getpgid: "own ids",
    SYS_getpid: "own ids",
    SYS_getppid: "own ids",
    SYS_getresgid: "own ids",
    SYS_getresuid: "own ids",
    SYS_getsid: "own ids",
    SYS_getuid: "own ids",
};

const FILE_MORE: &[Call] = calls! {
    SYS_copy_file_range: "copy between files",
    SYS_fchown: "fails without capabilities; cp and tar try",
    SYS_fchownat: "as fchown",
    SYS_fgetxattr: "attributes",
    SYS_flistxattr: "attributes",
    SYS_getxattr: "attributes",
    SYS_getxattrat = 464: "attributes",
    SYS_inotify_add_watch: "watching own files",
    SYS_inotify_init1: "watching own files",
    SYS_inotify_rm_watch: "watching own files",
    SYS_lgetxattr: "attributes",
    SYS_linkat: "hard links in the workdir",
    SYS_listxattr: "attributes",
    SYS_listxattrat = 465: "attributes",
    SYS_llistxattr: "attributes",
    SYS_memfd_create: "memory files, which can not be executed",
    SYS_mknodat: "named pipes; by type",
    SYS_splice: "copy between pipes",
    SYS_sync_file_range: "data to disk",
    SYS_syncfs: "data to disk",
    SYS_tee: "copy between pipes",
};

const PROCESS: &[Call] = calls! {
    SYS_capget: "asking for the empty sets",
    SYS_getpriority: "own priority",
    SYS_personality: "asking, and the default",
    SYS_pidfd_open: "waiting for own children",
    SYS_pidfd_send_signal: "own children",
    SYS_sched_get_priority_max: "scheduling",
    SYS_sched_get_priority_min: "scheduling",
    SYS_sched_getattr: "scheduling",
    SYS_sched_getparam: "scheduling",
    SYS_sched_getscheduler: "scheduling",
    SYS_sched_rr_get_interval: "scheduling",
    SYS_sched_setaffinity: "processors for own threads",
    SYS_setpgid: "job control of shells",
    SYS_setpriority: "lowering own priority",
    SYS_setsid: "own daemons, which end with the session",
    SYS_wait4: "children",
    SYS_waitid: "children",
};

const NETWORK_MORE: &[Call] = calls! {
    SYS_accept: "a listener of its own; the hooks let nobody in",
    SYS_accept4: "as accept",
    SYS_listen: "as accept",
    SYS_recvmmsg: "many datagrams",
    SYS_sendmmsg: "many datagrams; the hooks see each",
};

const SELF_CONFINE: &[Call] = calls! {
    SYS_landlock_add_rule: "programs that confine themselves further",
    SYS_landlock_create_ruleset: "as landlock_add_rule",
    SYS_landlock_restrict_self: "as landlock_add_rule",
};

const RUNTIME: &[Call] = calls! {
    SYS_get_mempolicy: "memory near a processor",
    SYS_ioprio_get: "priority of own disk use",
    SYS_ioprio_set: "lowering it",
    SYS_mbind: "memory near a processor",
    SYS_mlockall: "limited",
    SYS_msgctl: "message queues in the session's namespace",
    SYS_msgget: "as msgctl",
    SYS_msgrcv: "as msgctl",
    SYS_msgsnd: "as msgctl",
    SYS_munlockall: "limited",
    SYS_sched_setattr: "lowering own priority",
    SYS_sched_setparam: "lowering own priority",
    SYS_sched_setscheduler: "lowering own priority",
    SYS_semctl: "semaphores in the session's namespace",
    SYS_semget: "as semctl",
    SYS_semop: "as semctl",
    SYS_semtimedop: "as semctl",
    SYS_set_mempolicy: "memory near a processor",
    SYS_shmat: "shared memory in the session's namespace",
    SYS_shmctl: "as shmat",
    SYS_shmdt: "as shmat",
    SYS_shmget: "as shmat",
};

/// Older forms that only x86-64 has, of what the groups of `strict` allow.
#[cfg(target_arch = "x86_64")]
const OLD_STRICT: &[Call] = calls! {
    SYS_access: "faccessat",
    SYS_alarm: "setitimer",
    SYS_arch_prctl: "libc's start; by code",
    SYS_chmod: "fchmodat",
    SYS_creat: "openat",
    SYS_dup2: "dup3",
    SYS_epoll_create: "epoll_create1",
    SYS_epoll_wait: "epoll_pwait",
    SYS_eventfd: "eventfd2",
    SYS_getdents: "getdents64",
    SYS_getpgrp: "getpgid",
    SYS_getrlimit: "prlimit64",
    SYS_lstat: "newfstatat",
    SYS_map_shadow_stack = 453: "threads where the processor has shadow stacks",
    SYS_mkdir: "mkdirat",
    SYS_open: "openat",
    SYS_pause: "rt_sigsuspend",
    SYS_pipe: "pipe2",
    SYS_poll: "ppoll",
    SYS_readlink: "readlinkat",
    SYS_rename: "renameat",
    SYS_rmdir: "unlinkat",
    SYS_select: "pselect6",
    SYS_setrlimit: "prlimit64",
    SYS_signalfd: "signalfd4",
    SYS_stat: "newfstatat",
    SYS_symlink: "symlinkat",
    SYS_time: "clock_gettime",
    SYS_unlink: "unlinkat",
    SYS_utime: "utimensat",
    SYS_utimes: "utimensat",
};

/// Older forms of what the groups of `default` add.
#[cfg(target_arch = "x86_64")]
const OLD_DEFAULT: &[Call] = calls! {
    SYS_chown: "fchownat",
    SYS_fork: "clone",
    SYS_futimesat: "utimensat",
    SYS_inotify_init: "inotify_init1",
    SYS_lchown: "fchownat",
    SYS_link: "linkat",
    SYS_mknod: "mknodat",
    SYS_vfork: "clone",
};
