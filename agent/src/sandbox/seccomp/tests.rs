//! The compiled filters, run instruction by instruction.

mod equivalence;
mod machine;

use std::collections::BTreeSet;

use self::machine::{Call, I386, judge};
use super::*;
use crate::policy::{
    compiled::{Profile, Syscalls},
    syscall_names::number,
};

const X86_64: u32 = AUDIT_ARCH_X86_64;
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = AUDIT_ARCH_X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = AUDIT_ARCH_AARCH64;

const HOST: Host = Host {
    abstract_sockets_scoped: true,
    memfd_noexec: true,
    named_unix_streams: false,
    keeps_files: false,
};

const PROFILES: [Profile; 3] = [Profile::Strict, Profile::Default, Profile::Interpreter];

/// A bit that the kernel does not look at in an `int`.
const UPPER: u64 = 1 << 32;

fn policy(profile: Profile) -> Syscalls {
    Syscalls {
        profile,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

fn filters(profile: Profile) -> Filters {
    compile(&policy(profile), HOST).expect("the tables compile")
}

fn of(filters: &Filters, name: &str, arguments: &[u64]) -> Verdict {
    let number = number(name, Architecture::NATIVE).expect("a known call");
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    judge(filters, &Call::new(NATIVE, number, &all))
}

fn answer(profile: Profile, name: &str, arguments: &[u64]) -> Verdict {
    of(&filters(profile), name, arguments)
}

#[test]
fn other_architectures_and_x32_are_killed() {
    let filters = filters(Profile::Interpreter);
    let call = |architecture, number| Call::new(architecture, number, &[0; 6]);
    assert_eq!(answer(Profile::Interpreter, "read", &[]), Verdict::Allow);
    assert_eq!(judge(&filters, &call(I386, 3)), Verdict::Kill);
    assert_eq!(judge(&filters, &call(X86_64, X32_BIT)), Verdict::Kill);
}

#[test]
fn sockets_by_family_type_and_protocol() {
    const CLOEXEC: u64 = 0o2_000_000;
    let (pass, family, protocol) = (Verdict::Allow, Verdict::NoFamily, Verdict::NoProtocol);
    let default = Profile::Default;
    for (arguments, wanted) in [
        ([2, 1, 0], pass),
        ([2, 1 | CLOEXEC, 6], pass),
        ([10, 2, 17], pass),
        ([2, 1, 17], protocol),
        ([2, 1, 132], protocol),
        ([2, 1, 262], protocol),
        ([2, 2, 136], protocol),
        ([2, 5, 0], protocol),
        ([2, 3, 1], protocol),
        ([2, 10, 0], protocol),
        ([16, 3, 0], pass),
        ([16, 3, 4], protocol),
        ([1, 1, 0], family),
        ([40, 1, 0], family),
        ([UPPER + 40, 1, 0], family),
        ([UPPER | 2, 1, 0], pass),
        ([UPPER + 2, UPPER + 1, UPPER + 262], protocol),
        ([0, 1, 0], family),
    ] {
        assert_eq!(
            answer(default, "socket", &arguments),
            wanted,
            "{arguments:?}"
        );
    }
    assert_eq!(answer(default, "socketpair", &[1, 1, 0]), pass);
    assert_eq!(answer(default, "socketpair", &[1, 2, 0]), protocol);
    assert_eq!(answer(default, "socketpair", &[2, 1, 0]), family);
}

#[test]
fn unix_streams_by_name_where_something_judges_the_names() {
    for (profile, abstract_sockets_scoped, named_unix_streams, wanted) in [
        (Profile::Interpreter, true, false, Verdict::Allow),
        (Profile::Interpreter, false, false, Verdict::NoFamily),
        (Profile::Default, true, false, Verdict::NoFamily),
        (Profile::Strict, true, true, Verdict::Allow),
        (Profile::Default, true, true, Verdict::Allow),
        // Where abstract sockets are not held back there is none, whatever is asked.
        (Profile::Strict, false, true, Verdict::NoFamily),
        (Profile::Default, false, true, Verdict::NoFamily),
    ] {
        let host = Host {
            abstract_sockets_scoped,
            named_unix_streams,
            ..HOST
        };
        let filters = compile(&policy(profile), host).expect("the tables");
        assert_eq!(
            of(&filters, "socket", &[1, 1, 0]),
            wanted,
            "{profile:?} {host:?}"
        );
        let datagram = of(&filters, "socket", &[1, 2, 0]);
        assert_ne!(datagram, Verdict::Allow, "{profile:?} {host:?}");
    }
}

#[test]
fn arguments_are_judged_by_their_lower_half() {
    let (pass, refused) = (Verdict::Allow, Verdict::NotPermitted);
    let default = Profile::Default;
    for (name, arguments, wanted) in [
        ("clone", &[0x0100_0011][..], pass),
        ("clone", &[0x2000_0011], refused),
        ("clone", &[UPPER | 0x1000_0011], refused),
        ("ioctl", &[0, 0x5401], pass),
        ("ioctl", &[0, UPPER | 0x5401], pass),
        ("ioctl", &[0, 0x5412], refused),
        ("ioctl", &[0, UPPER | 0x5412], refused),
        ("ioctl", &[0, 0x541c], refused),
        ("prctl", &[15], pass),
        ("prctl", &[22], refused),
        ("setsockopt", &[3, 6, 1], pass),
        ("setsockopt", &[3, 0, 4], refused),
        ("setsockopt", &[3, 41, 57], refused),
        ("setsockopt", &[3, 1, 36], refused),
        ("setsockopt", &[3, 6, 31], refused),
        ("mknodat", &[0, 0, 0o010_600], pass),
        ("mknodat", &[0, 0, 0o020_600], refused),
        ("mknodat", &[0, 0, 0o140_600], refused),
        ("prlimit64", &[0, 7], pass),
        ("prlimit64", &[1, 7], refused),
        ("personality", &[0xffff_ffff], pass),
        ("personality", &[0x0004_0000], refused),
        ("memfd_create", &[0, 3], pass),
        ("memfd_create", &[0, 8], pass),
        ("memfd_create", &[0, 0x10], refused),
        ("memfd_create", &[0, 4], refused),
        ("mmap", &[0, 4096, 7, 0x22], pass),
    ] {
        assert_eq!(
            answer(default, name, arguments),
            wanted,
            "{name} {arguments:x?}"
        );
    }
}

#[test]
fn strict_makes_threads_and_no_code() {
    let (pass, refused) = (Verdict::Allow, Verdict::NotPermitted);
    for (name, arguments, wanted) in [
        ("clone", &[0x003d_0f00][..], pass),
        ("clone", &[0x0100_0011], refused),
        ("clone", &[0x0001_0000 | 0x0002_0000], refused),
        ("mmap", &[0, 4096, 3, 0x22], pass),
        ("mmap", &[0, 4096, 5, 2], pass),
        ("mmap", &[0, 4096, 5, 0x22], refused),
        ("mmap", &[0, 4096, 7, 2], refused),
        ("mprotect", &[0, 4096, 1], pass),
        ("mprotect", &[0, 4096, 5], refused),
        ("wait4", &[], refused),
        ("listen", &[], refused),
    ] {
        assert_eq!(
            answer(Profile::Strict, name, arguments),
            wanted,
            "{name} {arguments:x?}"
        );
    }
}

#[test]
fn policies_add_and_take_away() {
    let mut policy = policy(Profile::Strict);
    policy.allow.push("ptrace".to_owned());
    policy.deny = vec!["listen".to_owned(), "socket".to_owned(), "read".to_owned()];
    let filters = compile(&policy, HOST).expect("the tables");
    assert_eq!(of(&filters, "ptrace", &[]), Verdict::Allow);
    assert_eq!(of(&filters, "socket", &[2, 1, 0]), Verdict::NotPermitted);
    assert_eq!(of(&filters, "read", &[]), Verdict::NotPermitted);
    // A call with conditions keeps them when it is added.
    policy.allow = vec!["clone".to_owned(), "pkey_mprotect".to_owned()];
    let filters = compile(&policy, HOST).expect("the tables");
    assert_eq!(of(&filters, "clone", &[0x2000_0011]), Verdict::NotPermitted);
    assert_eq!(
        of(&filters, "pkey_mprotect", &[0, 1, 4]),
        Verdict::NotPermitted
    );
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
    let filters = compile(&policy(Profile::Default), host).expect("the tables");
    assert_eq!(of(&filters, "memfd_create", &[0, 8]), Verdict::NotHere);
}

#[test]
fn recent_calls_do_not_exist_rather_than_being_refused() {
    for name in [
        "cachestat",
        "statmount",
        "listmount",
        "lsm_get_self_attr",
        "setxattrat",
        "file_getattr",
        "open_tree_attr",
    ] {
        assert_eq!(
            answer(Profile::Interpreter, name, &[]),
            Verdict::NotHere,
            "{name}"
        );
    }
    for name in ["mseal", "futex_wait", "fchmodat2", "map_shadow_stack"] {
        assert_eq!(answer(Profile::Strict, name, &[]), Verdict::Allow, "{name}");
    }
}

#[test]
fn the_template_can_not_do_what_the_launcher_does_not_need() {
    let template = filters(Profile::Interpreter).template;
    let only = Filters {
        template,
        session: Vec::new(),
    };
    for name in [
        "mount",
        "clone3",
        "setresuid",
        "keyctl",
        "seccomp",
        "execveat",
        "landlock_restrict_self",
    ] {
        assert_eq!(of(&only, name, &[]), Verdict::Allow, "{name}");
    }
    for name in [
        "bpf",
        "init_module",
        "add_key",
        "ptrace",
        "process_vm_writev",
        "reboot",
        "setns",
        "open_by_handle_at",
        "perf_event_open",
    ] {
        assert_eq!(of(&only, name, &[]), Verdict::NotPermitted, "{name}");
    }
    assert_eq!(of(&only, "socket", &[17, 3, 0]), Verdict::NoFamily);
    // Clearing the ambient set, and a system call dispatcher.
    assert_eq!(of(&only, "prctl", &[47, 4]), Verdict::Allow);
    assert_eq!(of(&only, "prctl", &[59]), Verdict::NotPermitted);
    let both = filters(Profile::Interpreter);
    assert_eq!(of(&both, "prctl", &[47, 4]), Verdict::NotPermitted);
}

#[test]
fn what_the_launcher_calls_is_allowed_by_the_template_even_where_a_policy_denies_it() {
    let mut policy = policy(Profile::Strict);
    let needed: BTreeSet<_> = launcher::all().map(|call| call.name).collect();
    policy.deny = needed.iter().map(|name| (*name).to_owned()).collect();
    let Filters { template, session } = compile(&policy, HOST).expect("the tables");
    let only = Filters {
        template: template.clone(),
        session: Vec::new(),
    };
    let both = Filters { template, session };
    for name in needed {
        if number(name, Architecture::NATIVE).is_some() {
            assert_eq!(of(&only, name, &[]), Verdict::Allow, "{name}");
            assert_ne!(of(&both, name, &[]), Verdict::Allow, "{name}");
        }
    }
}

/// The forms in which the launcher makes calls that stay judged by the profile from the template on.
#[test]
fn every_profile_allows_the_launchers_own_forms() {
    for profile in PROFILES {
        for (name, arguments) in [
            ("prctl", &[1, 9][..]),
            ("prctl", &[4, 0]),
            ("prctl", &[21]),
            ("prctl", &[38, 1]),
            ("prlimit64", &[0, 7]),
            ("mmap", &[0, 4096, 3, 0x22]),
            ("mmap", &[0, 4096, 5, 0x2]),
            ("mprotect", &[0, 4096, 1]),
        ] {
            let verdict = answer(profile, name, arguments);
            assert_eq!(verdict, Verdict::Allow, "{profile:?} {name} {arguments:?}");
        }
    }
}
