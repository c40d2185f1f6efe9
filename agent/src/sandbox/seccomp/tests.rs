//! The compiled stack, run instruction by instruction over every call that the tables know.

use std::collections::BTreeSet;

use super::*;
use crate::sandbox::syscalls::{names, number};

/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`, `AUDIT_ARCH_I386`.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
const I386: u32 = 0x4000_0003;

const HOST: Host = Host {
    abstract_sockets_scoped: true,
    named_unix_streams: false,
    memfd_noexec: true,
};

/// A bit that the kernel does not look at in an `int`.
const UPPER: u64 = 1 << 32;

/// What the kernel answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Pass,
    Errno(i32),
    Kill,
}

/// `struct seccomp_data`, in words.
struct Call([u32; 16]);

impl Call {
    fn new(number: i64, arguments: &[u64]) -> Self {
        Self::on(NATIVE, number, arguments)
    }

    fn on(architecture: u32, number: i64, arguments: &[u64]) -> Self {
        let mut words = [0; 16];
        words[0] = u32::try_from(number).expect("a number");
        words[1] = architecture;
        for (index, argument) in arguments.iter().enumerate() {
            words[4 + 2 * index] = u32::try_from(argument & u64::from(u32::MAX)).expect("a half");
            words[5 + 2 * index] = u32::try_from(argument >> 32).expect("a half");
        }
        Self(words)
    }
}

/// Runs one filter as the kernel does (classic BPF, the instructions that seccompiler emits).
fn run(filter: &Filter, call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let (code, yes, no, value) = filter.0[at];
        at += 1;
        let step = |taken: bool| usize::from(if taken { yes } else { no });
        match code {
            0x20 => accumulator = call.0[value as usize / 4],
            0x54 => accumulator &= value,
            0x05 => at += value as usize,
            0x15 => at += step(accumulator == value),
            0x25 => at += step(accumulator > value),
            0x35 => at += step(accumulator >= value),
            0x06 => return value,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The kernel's choice among the filters: the gravest action; of equals, the last installed.
fn judge(stack: &[Filter], call: &Call) -> Answer {
    let mut answer = Answer::Pass;
    for filter in stack {
        let value = run(filter, call);
        let this = match value & 0xffff_0000 {
            0x8000_0000 => Answer::Kill,
            0x0005_0000 => Answer::Errno(i32::try_from(value & 0xffff).expect("an errno")),
            0x7fff_0000 => Answer::Pass,
            other => panic!("action {other:#x}"),
        };
        let grave = |answer| match answer {
            Answer::Pass => 0,
            Answer::Errno(_) => 1,
            Answer::Kill => 2,
        };
        if this != Answer::Pass && grave(this) >= grave(answer) {
            answer = this;
        }
    }
    answer
}

fn policy(profile: Profile) -> Syscalls {
    Syscalls {
        profile,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

fn stack(profile: Profile) -> Vec<Filter> {
    compile(&policy(profile), HOST).expect("the tables compile")
}

fn errno_of(profile: Profile, name: &str, arguments: &[u64]) -> Answer {
    let number = number(name).expect("a known call");
    judge(&stack(profile), &Call::new(number, arguments))
}

#[test]
fn each_call_passes_exactly_where_a_profile_lists_it() {
    for profile in [Profile::Strict, Profile::Default, Profile::Interpreter] {
        let stack = stack(profile);
        let listed = syscalls::resolve(&policy(profile)).expect("the tables");
        let absent: BTreeSet<_> = syscalls::ABSENT.iter().map(|call| call.number).collect();
        for number in 0..i64::from(syscalls::NUMBERS_KNOWN) {
            let answer = judge(&stack, &Call::new(number, &[]));
            let wanted = match listed.get(&number) {
                Some(checks) if checks.is_empty() => Answer::Pass,
                // With arguments of zero some pass and some do not; other tests look at those.
                Some(_) => continue,
                None if absent.contains(&number) => Answer::Errno(libc::ENOSYS),
                None => Answer::Errno(libc::EPERM),
            };
            // Family 0 is judged by the filters before the list.
            if number != libc::SYS_socket && number != libc::SYS_socketpair {
                assert_eq!(answer, wanted, "{profile:?}: call {number}");
            }
        }
    }
}

#[test]
fn profiles_grow() {
    let listed = |profile| -> BTreeSet<i64> {
        let calls = syscalls::resolve(&policy(profile)).expect("the tables");
        calls.into_keys().collect()
    };
    let strict = listed(Profile::Strict);
    let default = listed(Profile::Default);
    let interpreter = listed(Profile::Interpreter);
    assert!(strict.len() < default.len() && strict.is_subset(&default));
    assert!(default.len() < interpreter.len() && default.is_subset(&interpreter));
}

#[test]
fn other_architectures_and_x32_are_killed() {
    let stack = stack(Profile::Interpreter);
    let read = libc::SYS_read;
    assert_eq!(judge(&stack, &Call::new(read, &[])), Answer::Pass);
    assert_eq!(judge(&stack, &Call::on(I386, 3, &[])), Answer::Kill);
    let x32 = read | i64::from(X32_BIT);
    assert_eq!(judge(&stack, &Call::new(x32, &[])), Answer::Kill);
}

#[test]
fn numbers_beyond_the_tables_do_not_exist() {
    let stack = stack(Profile::Interpreter);
    for number in [syscalls::NUMBERS_KNOWN, 500, 1023, X32_BIT - 1] {
        let answer = judge(&stack, &Call::new(i64::from(number), &[]));
        assert_eq!(answer, Answer::Errno(libc::ENOSYS), "{number}");
    }
}

#[test]
fn sockets_by_family_type_and_protocol() {
    const CLOEXEC: u64 = 0o2_000_000;
    let pass = Answer::Pass;
    let family = Answer::Errno(libc::EAFNOSUPPORT);
    let protocol = Answer::Errno(libc::EPROTONOSUPPORT);
    let default = Profile::Default;
    for (arguments, wanted) in [
        ([2, 1, 0], pass),
        ([2, 1 | CLOEXEC, 6], pass),
        ([10, 2, 17], pass),
        ([2, 1, 17], protocol),
        ([2, 1, 262], protocol),
        ([2, 2, 136], protocol),
        ([2, 3, 1], protocol),
        ([2, 10, 0], protocol),
        ([16, 3, 0], pass),
        ([16, 3, 4], protocol),
        ([1, 1, 0], family),
        ([40, 1, 0], family),
        ([UPPER + 40, 1, 0], family),
        ([UPPER | 2, 1, 0], pass),
        ([0, 1, 0], family),
    ] {
        assert_eq!(
            errno_of(default, "socket", &arguments),
            wanted,
            "{arguments:?}"
        );
    }
    let interpreter = Profile::Interpreter;
    assert_eq!(errno_of(interpreter, "socket", &[1, 1, 0]), pass);
    assert_eq!(errno_of(interpreter, "socket", &[1, 2, 0]), protocol);
    let unscoped = Host {
        abstract_sockets_scoped: false,
        ..HOST
    };
    let stack = compile(&policy(interpreter), unscoped).expect("the tables");
    let unix = Call::new(libc::SYS_socket, &[1, 1, 0]);
    assert_eq!(judge(&stack, &unix), family);
    assert_eq!(errno_of(default, "socketpair", &[1, 1, 0]), pass);
    assert_eq!(errno_of(default, "socketpair", &[1, 2, 0]), protocol);
    assert_eq!(errno_of(default, "socketpair", &[2, 1, 0]), family);
}

#[test]
fn arguments_are_judged_by_their_lower_half() {
    let refused = Answer::Errno(libc::EPERM);
    let default = Profile::Default;
    for (name, arguments, wanted) in [
        ("clone", &[0x0100_0011][..], Answer::Pass),
        ("clone", &[0x2000_0011], refused),
        ("clone", &[UPPER | 0x1000_0011], refused),
        ("ioctl", &[0, 0x5401], Answer::Pass),
        ("ioctl", &[0, 0x5412], refused),
        ("ioctl", &[0, UPPER | 0x5412], refused),
        ("ioctl", &[0, 0x541c], refused),
        ("prctl", &[15], Answer::Pass),
        ("prctl", &[22], refused),
        ("setsockopt", &[3, 6, 1], Answer::Pass),
        ("setsockopt", &[3, 0, 4], refused),
        ("setsockopt", &[3, 41, 57], refused),
        ("setsockopt", &[3, 1, 36], refused),
        ("mknodat", &[0, 0, 0o010_600], Answer::Pass),
        ("mknodat", &[0, 0, 0o020_600], refused),
        ("prlimit64", &[0, 7], Answer::Pass),
        ("prlimit64", &[1, 7], refused),
        ("mmap", &[0, 4096, 7], Answer::Pass),
    ] {
        assert_eq!(
            errno_of(default, name, arguments),
            wanted,
            "{name} {arguments:x?}"
        );
    }
    let strict = Profile::Strict;
    assert_eq!(errno_of(strict, "mmap", &[0, 4096, 7]), refused);
    assert_eq!(errno_of(strict, "mmap", &[0, 4096, 5]), Answer::Pass);
    assert_eq!(errno_of(strict, "mmap", &[0, 4096, 3]), Answer::Pass);
}

#[test]
fn policies_add_and_take_away() {
    let mut policy = policy(Profile::Strict);
    policy.allow.push("ptrace".to_owned());
    policy.deny.push("listen".to_owned());
    policy.deny.push("socket".to_owned());
    let stack = compile(&policy, HOST).expect("the tables");
    let answer = |number| judge(&stack, &Call::new(number, &[2, 1, 0]));
    assert_eq!(answer(libc::SYS_ptrace), Answer::Pass);
    assert_eq!(answer(libc::SYS_socket), Answer::Errno(libc::EPERM));
    // A call with conditions keeps them when it is added.
    policy.profile = Profile::Default;
    policy.allow.push("clone".to_owned());
    let stack = compile(&policy, HOST).expect("the tables");
    let namespaces = Call::new(libc::SYS_clone, &[0x2000_0011]);
    assert_eq!(judge(&stack, &namespaces), Answer::Errno(libc::EPERM));

    for name in ["bpf", "mount", "clone3", "io_uring_setup"] {
        policy.allow = vec![name.to_owned()];
        let error = compile(&policy, HOST).expect_err(name);
        assert!(matches!(error, PlanError::CallOpensFence { .. }), "{error}");
    }
    policy.allow = vec!["ptrase".to_owned()];
    let error = compile(&policy, HOST)
        .expect_err("a misspelt name")
        .to_string();
    assert!(error.ends_with("hint: did you mean `ptrace`?"), "{error}");
}

#[test]
fn without_the_sysctl_there_are_no_memory_files() {
    let host = Host {
        memfd_noexec: false,
        ..HOST
    };
    let stack = compile(&policy(Profile::Default), host).expect("the tables");
    let call = Call::new(libc::SYS_memfd_create, &[]);
    assert_eq!(judge(&stack, &call), Answer::Errno(libc::ENOSYS));
}

#[test]
fn a_door_brings_unix_streams_and_nothing_else() {
    const UNIX: u64 = libc::AF_UNIX as u64;
    const STREAM: u64 = libc::SOCK_STREAM as u64;
    const DATAGRAM: u64 = libc::SOCK_DGRAM as u64;
    let door = Host {
        named_unix_streams: true,
        ..HOST
    };
    for profile in [Profile::Strict, Profile::Default, Profile::Interpreter] {
        let stack = compile(&policy(profile), door).expect("the tables");
        let socket = |kind| Call::new(libc::SYS_socket, &[UNIX, kind, 0]);
        assert_eq!(judge(&stack, &socket(STREAM)), Answer::Pass);
        let refused = Answer::Errno(libc::EPROTONOSUPPORT);
        assert_eq!(judge(&stack, &socket(DATAGRAM)), refused);
        assert_eq!(
            judge(&stack, &Call::new(libc::SYS_connect, &[3])),
            Answer::Pass
        );
        // Where abstract sockets are not held back there is none, whatever is asked.
        let open = Host {
            abstract_sockets_scoped: false,
            ..door
        };
        let stack = compile(&policy(profile), open).expect("the tables");
        let refused = Answer::Errno(libc::EAFNOSUPPORT);
        assert_eq!(judge(&stack, &socket(STREAM)), refused);
    }
}

#[test]
fn no_name_stands_twice() {
    let mut seen = BTreeSet::new();
    for name in names() {
        assert!(seen.insert(name), "{name}");
    }
}

/// A policy that passes `policy check` must not fail at its first launch over a name.
#[test]
#[cfg(target_arch = "x86_64")]
fn every_name_that_a_policy_may_hold_is_in_a_table() {
    let lacking: Vec<_> = crate::policy::syscall_names::NAMES
        .iter()
        .filter(|name| number(name).is_none())
        .collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}
