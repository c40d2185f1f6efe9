//! `strict`: one program with its threads, its files and a network client. No children, no code made
//! at run time, no listener.

use super::{Call, calls};

/// The groups.
pub(super) const GROUPS: &[&[Call]] = &[
    FILE, MEMORY, THREAD, EXECUTE, SIGNAL, TIME, WAIT, NETWORK, IDENTITY, OLD,
];

/// Files and folders that the root holds.
const FILE: &[Call] = calls! {
    chdir: "current folder",
    close: "descriptors",
    close_range: "descriptors, before an execution",
    dup: "descriptors",
    dup3: "descriptors",
    faccessat: "may a file be read",
    faccessat2: "may a file be read",
    fadvise64: "how a file will be read",
    fallocate: "room in a file",
    fchdir: "current folder",
    fchmod: "mode of own files",
    fchmodat: "mode of own files",
    fchmodat2: "mode of own files",
    fcntl: "descriptor flags, record locks",
    fdatasync: "data to disk",
    flock: "locks",
    fstat: "what a file is",
    fstatfs: "room on a file system",
    fsync: "data to disk",
    ftruncate: "length of own files",
    getcwd: "current folder",
    getdents64: "list a folder",
    ioctl: "what a descriptor is; by number",
    lseek: "position",
    mkdirat: "folders in the workdir",
    newfstatat: "what a file is",
    openat: "open",
    openat2: "open, without links",
    pipe2: "pipes",
    pread64: "read",
    preadv: "read",
    preadv2: "read",
    pwrite64: "write",
    pwritev: "write",
    pwritev2: "write",
    read: "read",
    readahead: "how a file will be read",
    readlinkat: "links",
    readv: "read",
    renameat: "rename in the workdir",
    renameat2: "rename in the workdir",
    sendfile: "copy between descriptors",
    statfs: "room on a file system",
    statx: "what a file is",
    symlinkat: "links in the workdir",
    truncate: "length of own files",
    umask: "mode of new files",
    unlinkat: "remove in the workdir",
    utimensat: "times of own files",
    write: "write",
    writev: "write",
};

/// Memory of the own process.
const MEMORY: &[Call] = calls! {
    brk: "heap",
    madvise: "allocators",
    membarrier: "allocators, runtimes",
    mincore: "Go's start",
    mlock: "keys stay out of swap; limited",
    mlock2: "as mlock",
    mmap: "memory; under `strict` no code but a file's",
    mprotect: "the loader, guard pages; under `strict` no code",
    mremap: "allocators",
    mseal: "the loader seals what it mapped",
    msync: "mapped files",
    munlock: "as mlock",
    munmap: "memory",
};

/// Threads.
const THREAD: &[Call] = calls! {
    clone: "threads, and under `default` processes; no namespace flag",
    exit: "end of a thread",
    exit_group: "end of a process",
    futex: "locks",
    futex_requeue: "locks",
    futex_wait: "locks",
    futex_waitv: "locks",
    futex_wake: "locks",
    get_robust_list: "locks of a dead thread",
    getcpu: "which processor",
    gettid: "own id",
    map_shadow_stack: "threads where the processor has shadow stacks",
    rseq: "libc's start",
    sched_getaffinity: "how many processors",
    sched_yield: "spin locks",
    set_robust_list: "libc's start",
    set_tid_address: "libc's start",
};

/// The start of a program.
const EXECUTE: &[Call] = calls! {
    execve: "programs that the root holds",
    execveat: "the launcher's own last call; programs by descriptor",
    getrandom: "random bytes",
    prctl: "thread names; by option",
    prlimit64: "own limits",
    sysinfo: "memory and load",
    uname: "kernel version",
};

/// Signals among own processes.
const SIGNAL: &[Call] = calls! {
    kill: "own processes: no other is visible",
    restart_syscall: "the kernel restarts a sleep with it",
    rt_sigaction: "handlers",
    rt_sigpending: "handlers",
    rt_sigprocmask: "handlers",
    rt_sigqueueinfo: "own processes",
    rt_sigreturn: "handlers",
    rt_sigsuspend: "handlers",
    rt_sigtimedwait: "handlers",
    rt_tgsigqueueinfo: "own threads",
    sigaltstack: "handlers",
    signalfd4: "event loops",
    tgkill: "own threads, abort",
    tkill: "own threads",
};

/// Clocks and timers.
const TIME: &[Call] = calls! {
    clock_getres: "clocks",
    clock_gettime: "clocks",
    clock_nanosleep: "sleep",
    getitimer: "timers",
    getrusage: "own use",
    gettimeofday: "clocks",
    nanosleep: "sleep",
    setitimer: "timers",
    timer_create: "timers",
    timer_delete: "timers",
    timer_getoverrun: "timers",
    timer_gettime: "timers",
    timer_settime: "timers",
    timerfd_create: "event loops",
    timerfd_gettime: "event loops",
    timerfd_settime: "event loops",
    times: "own use",
};

/// Waiting for many things.
const WAIT: &[Call] = calls! {
    epoll_create1: "event loops",
    epoll_ctl: "event loops",
    epoll_pwait: "event loops",
    epoll_pwait2: "event loops",
    eventfd2: "event loops",
    ppoll: "event loops",
    pselect6: "event loops",
};

/// A network client.
const NETWORK: &[Call] = calls! {
    bind: "source address of a client; port 0, which the hooks see to",
    connect: "client; the hooks decide",
    getpeername: "client",
    getsockname: "client",
    getsockopt: "client",
    recvfrom: "client",
    recvmmsg: "many datagrams",
    recvmsg: "client",
    sendmmsg: "many datagrams, as glibc asks for both kinds of address; the hooks see each",
    sendmsg: "client; the hooks decide",
    sendto: "client; the hooks decide",
    setsockopt: "client; by level and option",
    shutdown: "client",
    socket: "client; by family, type and protocol",
    socketpair: "unix streams",
};

/// Asking who one is.
const IDENTITY: &[Call] = calls! {
    getegid: "own ids",
    geteuid: "own ids",
    getgid: "own ids",
    getgroups: "own ids",
    getpgid: "own ids",
    getpid: "own ids",
    getppid: "own ids",
    getresgid: "own ids",
    getresuid: "own ids",
    getsid: "own ids",
    getuid: "own ids",
};

/// Older forms of the above, which only x86-64 has.
const OLD: &[Call] = calls! {
    access: "faccessat",
    alarm: "setitimer",
    arch_prctl: "libc's start; by code",
    chmod: "fchmodat",
    creat: "openat",
    dup2: "dup3",
    epoll_create: "epoll_create1",
    epoll_wait: "epoll_pwait",
    eventfd: "eventfd2",
    getdents: "getdents64",
    getpgrp: "getpgid",
    getrlimit: "prlimit64",
    lstat: "newfstatat",
    mkdir: "mkdirat",
    open: "openat",
    pause: "rt_sigsuspend",
    pipe: "pipe2",
    poll: "ppoll",
    readlink: "readlinkat",
    rename: "renameat",
    rmdir: "unlinkat",
    select: "pselect6",
    setrlimit: "prlimit64",
    signalfd: "signalfd4",
    stat: "newfstatat",
    symlink: "symlinkat",
    time: "clock_gettime",
    unlink: "unlinkat",
    utime: "utimensat",
    utimes: "utimensat",
};
