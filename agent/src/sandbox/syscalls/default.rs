//! What `default` has beyond `strict`: an ordinary program, with children, pipelines and listeners of
//! its own.

use super::{Call, calls};

/// The groups.
pub(super) const GROUPS: &[&[Call]] = &[FILE_MORE, PROCESS, NETWORK_MORE, SELF_CONFINE, OLD];

/// Attributes, links, watches, copies.
const FILE_MORE: &[Call] = calls! {
    copy_file_range: "copy between files",
    fchown: "fails without capabilities; cp and tar try",
    fchownat: "as fchown",
    fgetxattr: "attributes",
    flistxattr: "attributes",
    getxattr: "attributes",
    getxattrat: "attributes",
    inotify_add_watch: "watching readable files",
    inotify_init1: "watching own files",
    inotify_rm_watch: "watching own files",
    lgetxattr: "attributes",
    linkat: "hard links in the workdir",
    listxattr: "attributes",
    listxattrat: "attributes",
    llistxattr: "attributes",
    memfd_create: "memory files, which can not be executed; by flags",
    mknodat: "named pipes; by type",
    splice: "copy between pipes",
    sync_file_range: "data to disk",
    tee: "copy between pipes",
};

/// Children and scheduling.
const PROCESS: &[Call] = calls! {
    capget: "asking for the empty sets",
    getpriority: "own priority",
    personality: "asking, and the default",
    pidfd_open: "waiting for own children",
    pidfd_send_signal: "own children",
    sched_get_priority_max: "scheduling",
    sched_get_priority_min: "scheduling",
    sched_getattr: "scheduling",
    sched_getparam: "scheduling",
    sched_getscheduler: "scheduling",
    sched_rr_get_interval: "scheduling",
    sched_setaffinity: "processors for own threads",
    setpgid: "job control of shells",
    setpriority: "lowering own priority",
    setsid: "own daemons, which end with the session",
    wait4: "children",
    waitid: "children",
};

/// Listeners among own processes.
const NETWORK_MORE: &[Call] = calls! {
    accept: "a listener of its own; the hooks let nobody in",
    accept4: "as accept",
    listen: "as accept",
};

/// Programs that confine themselves further.
const SELF_CONFINE: &[Call] = calls! {
    landlock_add_rule: "programs that confine themselves further",
    landlock_create_ruleset: "as landlock_add_rule",
    landlock_restrict_self: "as landlock_add_rule",
};

/// Older forms of the above, which only x86-64 has.
const OLD: &[Call] = calls! {
    chown: "fchownat",
    fork: "clone",
    futimesat: "utimensat",
    inotify_init: "inotify_init1",
    lchown: "fchownat",
    link: "linkat",
    mknod: "mknodat",
    vfork: "clone",
};
