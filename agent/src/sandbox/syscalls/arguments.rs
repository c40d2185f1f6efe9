//! Calls that pass only with certain arguments.

use super::{Host, Rule, Verdict, options, sockets};
use crate::policy::compiled::Profile;

/// The namespace flags of clone(2).
const CLONE_NEW: u32 = 0x7e02_0000;
const CLONE_THREAD: u32 = 0x0001_0000;
/// File type bits of a mode, and those of a pipe and of a plain file.
const MODE_TYPE: u32 = 0o170_000;
const MODE_PIPE: u32 = 0o010_000;
const MODE_FILE: u32 = 0o100_000;
/// Bits of a mode by which a program runs as the file's owner or group.
const MODE_SET_ID: u32 = 0o006_000;
/// `O_CREAT`, and the bit of `O_TMPFILE` that is its own: without them there is no mode.
const OPEN_CREATES: u32 = 0x40 | 0x40_0000;
const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;
const MAP_ANONYMOUS: u32 = 0x20;
/// The host's huge pages, which the memory controller does not count.
const MAP_HUGETLB: u32 = 0x4_0000;
const SHM_EXEC: u32 = 0o100_000;
/// `MFD_CLOEXEC`, `MFD_ALLOW_SEALING` and `MFD_NOEXEC_SEAL`. Not execution, nor the host's huge pages.
const MEMFD_FLAGS: u32 = 1 | 2 | 8;

/// Under which arguments a listed call passes.
pub(super) fn rule(name: &str, profile: Profile, host: Host) -> Rule {
    let strict = profile == Profile::Strict;
    match name {
        "clone" if strict => Rule::masked(0, CLONE_NEW | CLONE_THREAD, &[CLONE_THREAD]),
        "clone" => Rule::masked(0, CLONE_NEW, &[0]),
        "ioctl" => Rule::one_of(1, IOCTLS),
        "prctl" => Rule::one_of(0, PRCTLS),
        "arch_prctl" => Rule::one_of(0, ARCH_PRCTLS),
        "personality" => Rule::one_of(0, &[0, u32::MAX]),
        // Its own limits only: process 1 of the session has the same user.
        "prlimit64" => Rule::one_of(0, &[0]),
        "mknodat" => node(2, host),
        "mknod" => node(1, host),
        "chmod" | "fchmod" | "creat" if host.keeps_files => no_set_id(1),
        "fchmodat" | "fchmodat2" if host.keeps_files => no_set_id(2),
        "open" if host.keeps_files => creates(1, no_set_id(2)),
        "openat" if host.keeps_files => creates(2, no_set_id(3)),
        // Its mode is in memory, where no filter can read it; programs fall back to openat.
        "openat2" if host.keeps_files => Rule::Always(Verdict::NotHere),
        "memfd_create" if host.memfd_noexec => Rule::masked(1, !MEMFD_FLAGS, &[0]),
        "memfd_create" => Rule::Always(Verdict::NotHere),
        "socket" => sockets::socket(profile, host),
        "socketpair" => sockets::pair(),
        "setsockopt" => options::set(),
        "mmap" if strict => file_code_only(),
        "mmap" => Rule::masked(3, MAP_HUGETLB, &[0]),
        "mprotect" | "pkey_mprotect" if strict => Rule::masked(2, PROT_EXEC, &[0]),
        "shmat" if strict => Rule::masked(2, SHM_EXEC, &[0]),
        _ => Rule::ALLOW,
    }
}

/// Pipes and plain files; device nodes and sockets by no name.
fn node(argument: u8, host: Host) -> Rule {
    let set_id = if host.keeps_files { MODE_SET_ID } else { 0 };
    Rule::masked(argument, MODE_TYPE | set_id, &[MODE_PIPE, MODE_FILE, 0])
}

/// A file that stays when its session has ended belongs to a number that another session gets: whoever
/// ran it outside of the fence would be that session's user (as systemd's `RestrictSUIDSGID`).
fn no_set_id(mode: u8) -> Rule {
    Rule::masked(mode, MODE_SET_ID, &[0])
}

/// Judges the opening of a file where that may make one.
fn creates(flags: u8, mode: Rule) -> Rule {
    Rule::choice(flags, OPEN_CREATES, [(0, Rule::ALLOW)], mode)
}

/// Memory that can be executed is a file's and can not be written: `strict` makes no code at run time.
fn file_code_only() -> Rule {
    let unwritten = Rule::masked(2, PROT_WRITE, &[0]);
    let of_file = Rule::choice(
        3,
        MAP_ANONYMOUS | MAP_HUGETLB,
        [(0, unwritten)],
        Rule::REFUSE,
    );
    let no_code = Rule::masked(3, MAP_HUGETLB, &[0]);
    Rule::choice(2, PROT_EXEC, [(0, no_code)], of_file)
}

/// Asking what a descriptor is and how much waits in it. Nothing that feeds a terminal (`TIOCSTI`,
/// `TIOCLINUX`), changes one, or speaks to a device.
const IOCTLS: &[u32] = &[
    0x541B,      // FIONREAD
    0x5421,      // FIONBIO
    0x5450,      // FIONCLEX
    0x5451,      // FIOCLEX
    0x5452,      // FIOASYNC
    0x5401,      // TCGETS
    0x5413,      // TIOCGWINSZ
    0x540F,      // TIOCGPGRP
    0x802C_542A, // TCGETS2
];

/// Names, death signals, sub-reapers, and asking.
const PRCTLS: &[u32] = &[
    1,           // PR_SET_PDEATHSIG
    2,           // PR_GET_PDEATHSIG
    3,           // PR_GET_DUMPABLE
    4,           // PR_SET_DUMPABLE
    7,           // PR_GET_KEEPCAPS
    15,          // PR_SET_NAME
    16,          // PR_GET_NAME
    21,          // PR_GET_SECCOMP
    23,          // PR_CAPBSET_READ
    27,          // PR_GET_SECUREBITS
    29,          // PR_SET_TIMERSLACK
    30,          // PR_GET_TIMERSLACK
    36,          // PR_SET_CHILD_SUBREAPER
    37,          // PR_GET_CHILD_SUBREAPER
    38,          // PR_SET_NO_NEW_PRIVS
    39,          // PR_GET_NO_NEW_PRIVS
    41,          // PR_SET_THP_DISABLE
    42,          // PR_GET_THP_DISABLE
    51,          // PR_SVE_GET_VL
    55,          // PR_SET_TAGGED_ADDR_CTRL
    56,          // PR_GET_TAGGED_ADDR_CTRL
    64,          // PR_SME_GET_VL
    65,          // PR_SET_MDWE
    66,          // PR_GET_MDWE
    74,          // PR_GET_SHADOW_STACK_STATUS
    75,          // PR_SET_SHADOW_STACK_STATUS
    76,          // PR_LOCK_SHADOW_STACK_STATUS
    0x4155_5856, // PR_GET_AUXV
    0x5356_4d41, // PR_SET_VMA
];

/// Thread-local storage, big registers of the own process, and what libc asks about shadow stacks.
const ARCH_PRCTLS: &[u32] = &[
    0x1002, // ARCH_SET_FS
    0x1003, // ARCH_GET_FS
    0x1021, // ARCH_GET_XCOMP_SUPP
    0x1022, // ARCH_GET_XCOMP_PERM
    0x1023, // ARCH_REQ_XCOMP_PERM
    0x3001, // ARCH_CET_STATUS
    0x5001, // ARCH_SHSTK_ENABLE
    0x5002, // ARCH_SHSTK_DISABLE
    0x5003, // ARCH_SHSTK_LOCK
    0x5005, // ARCH_SHSTK_STATUS
];
