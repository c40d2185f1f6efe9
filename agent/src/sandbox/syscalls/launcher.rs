//! The calls that template, process 1 and the worker's process make on their way to the program.
//!
//! The template's filter lets them pass, the session's filter judges them. Whoever adds a step to the
//! launcher finds here what it may do, and adds what it lacks; a call that is missing is refused, and
//! the launch with it. Not here, and so refused from the template on: sockets of any kind, kernel
//! programs, modules, keys other than joining a keyring, other processes' memory, the host's clock.

use std::collections::BTreeSet;

use super::{Call, Meaning, calls, number};

/// Those of which a profile may refuse some forms, or all.
const FREELY: &[Call] = calls! {
    capget: "shows that the sets are empty",
    capset: "empties the capability sets",
    chdir: "the workdir",
    chmod: "the workdir's mode",
    chown: "the workdir's owner",
    clone: "the worker's process; under `strict` a worker makes threads only",
    clone3: "process 1, into its cgroup and namespaces",
    fchmod: "the workdir's mode",
    fchmodat: "the workdir's mode",
    fchown: "the workdir's owner",
    fchownat: "the workdir's owner",
    fork: "the worker's process",
    fsconfig: "a session's mounts",
    fsmount: "a session's mounts",
    fsopen: "a session's mounts",
    keyctl: "an empty session keyring",
    landlock_add_rule: "the ruleset",
    landlock_create_ruleset: "the ruleset",
    landlock_restrict_self: "the ruleset",
    mkdirat: "a session's folders",
    mount: "a session's mounts",
    mount_setattr: "restricts a mount",
    move_mount: "a session's mounts",
    open_tree: "a session's mounts",
    pidfd_open: "watching over a process",
    pidfd_send_signal: "ends a process",
    pivot_root: "a root of a session's own",
    seccomp: "the session's filter",
    sethostname: "the session's name",
    setgid: "the session's group",
    setgroups: "no groups",
    setpgid: "a process group of its own",
    setresgid: "the session's group",
    setresuid: "the session's user",
    setsid: "no terminal",
    setuid: "the session's user",
    symlinkat: "a session's links",
    umount2: "takes a mount away",
    unlinkat: "the name of a file that lives on as a mount",
    unshare: "a mount namespace",
    vfork: "the worker's process",
    wait4: "process 1 reaps",
    waitid: "process 1 reaps",
};

/// Those that a profile allows in the form that is needed. They are free only where a policy denies
/// the call altogether.
const AS_LISTED: &[Call] = calls! {
    access: "looks a path up",
    arch_prctl: "libc's start",
    brk: "memory",
    clock_gettime: "deadlines",
    clock_nanosleep: "waits",
    close: "descriptors",
    close_range: "nothing is inherited",
    dup: "standard input, output and error",
    dup2: "standard input, output and error",
    dup3: "standard input, output and error",
    epoll_create1: "waits",
    epoll_ctl: "waits",
    epoll_pwait: "waits",
    epoll_wait: "waits",
    eventfd2: "waits",
    execve: "the program",
    execveat: "the program, by its descriptor",
    exit: "ends",
    exit_group: "ends",
    faccessat: "looks a path up",
    faccessat2: "looks a path up",
    fcntl: "descriptor flags",
    fstat: "checks a file",
    fstatfs: "checks a file",
    futex: "libc's locks",
    getdents64: "lists a folder",
    geteuid: "who it is",
    getgid: "who it is",
    getpid: "who it is",
    getppid: "whether the parent lives",
    getrandom: "libc's start",
    getsockopt: "who the agent is",
    gettid: "libc's start",
    getuid: "who it is",
    kill: "forwards signals",
    lseek: "position",
    lstat: "checks a file",
    madvise: "memory",
    mkdir: "a session's folders",
    mmap: "memory",
    mprotect: "libc's start",
    mremap: "memory",
    munmap: "memory",
    nanosleep: "waits",
    newfstatat: "checks a file",
    open: "opens",
    openat: "opens",
    openat2: "opens, without links",
    pipe: "how the worker tells",
    pipe2: "how the worker tells",
    poll: "waits",
    ppoll: "waits",
    prctl: "death signal, no_new_privs, not dumpable",
    pread64: "reads",
    prlimit64: "its own limits",
    read: "reads",
    readlink: "links",
    readlinkat: "links",
    readv: "reads",
    recvfrom: "the agent's requests",
    recvmsg: "the agent's requests",
    restart_syscall: "the kernel restarts a wait with it",
    rseq: "libc's start",
    rt_sigaction: "signals",
    rt_sigpending: "signals",
    rt_sigprocmask: "signals",
    rt_sigreturn: "signals",
    rt_sigtimedwait: "signals",
    sched_yield: "waits",
    sendmsg: "answers to the agent",
    sendto: "answers to the agent",
    set_robust_list: "libc's start",
    set_tid_address: "libc's start",
    setrlimit: "its own limits",
    sigaltstack: "the runtime's start and end",
    signalfd4: "signals",
    stat: "checks a file",
    statfs: "checks a file",
    statx: "checks a file",
    symlink: "a session's links",
    sysinfo: "memory",
    tgkill: "aborts",
    umask: "the worker's mode of new files",
    uname: "libc's start",
    unlink: "the name of a file that lives on as a mount",
    write: "writes",
    writev: "writes",
};

/// Every call that the launcher makes.
#[cfg(test)]
pub(in crate::sandbox) fn all() -> impl Iterator<Item = &'static Call> {
    FREELY.iter().chain(AS_LISTED)
}

/// The numbers that the session's part judges, and the template's part does not.
pub fn calls(meaning: &Meaning) -> BTreeSet<u32> {
    let numbers = |table: &'static [Call]| {
        let on = meaning.architecture();
        table.iter().filter_map(move |call| number(call.name, on))
    };
    let denied = numbers(AS_LISTED).filter(|number| meaning.rule(*number).always_refuses());
    numbers(FREELY).chain(denied).collect()
}
