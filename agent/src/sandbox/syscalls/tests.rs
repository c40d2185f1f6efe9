//! The tables against each other, and against the kernel's own headers.

use std::{collections::BTreeSet, fs};

use super::*;
use crate::policy::syscall_names::Architecture::{Aarch64, X86_64};

const HOST: Host = Host {
    abstract_sockets_scoped: true,
    memfd_noexec: true,
    named_unix_streams: false,
    keeps_files: false,
};

fn listed(profile: Profile) -> BTreeSet<&'static str> {
    let calls = groups(profile).into_iter().flatten();
    calls.map(|call| call.name).collect()
}

fn policy(profile: Profile) -> Syscalls {
    Syscalls {
        profile,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

#[test]
fn profiles_grow() {
    let [strict, default, interpreter] =
        [Profile::Strict, Profile::Default, Profile::Interpreter].map(listed);
    assert!(strict.len() < default.len() && strict.is_subset(&default));
    assert!(default.len() < interpreter.len() && default.is_subset(&interpreter));
}

#[test]
fn each_line_names_a_call_once_and_says_why() {
    let tables: Vec<&[Call]> = groups(Profile::Interpreter);
    let mut seen = BTreeSet::new();
    for call in tables.into_iter().chain([ABSENT]).flatten() {
        assert!(seen.insert(call.name), "{} stands twice", call.name);
        assert!(is_syscall_name(call.name), "{}", call.name);
        assert!(!call.why.is_empty(), "{}", call.name);
    }
    let mut seen = BTreeSet::new();
    for call in launcher::all() {
        assert!(seen.insert(call.name), "{} stands twice", call.name);
        assert!(is_syscall_name(call.name), "{}", call.name);
        assert!(!call.why.is_empty(), "{}", call.name);
    }
}

#[test]
fn no_profile_has_what_no_policy_may_add() {
    for name in listed(Profile::Interpreter) {
        assert_eq!(never(name), None, "{name}");
    }
    for call in ABSENT {
        assert!(never(call.name).is_some(), "{}", call.name);
    }
}

#[test]
fn a_call_without_a_rule_passes_exactly_where_it_is_listed() {
    for on in [X86_64, Aarch64] {
        for profile in [Profile::Strict, Profile::Default, Profile::Interpreter] {
            let listed = listed(profile);
            let meaning = meaning(&policy(profile), HOST, on).expect("the tables");
            for name in names() {
                let Some(number) = number(name, on) else {
                    continue;
                };
                let absent = ABSENT.iter().any(|call| call.name == name);
                let wanted = match meaning.rule(number) {
                    Rule::Always(verdict) => *verdict,
                    Rule::By { .. } => {
                        assert!(listed.contains(name), "{name}");
                        continue;
                    }
                };
                let right = if listed.contains(name) {
                    Verdict::Allow
                } else if absent || number >= RECENT {
                    Verdict::NotHere
                } else {
                    Verdict::NotPermitted
                };
                assert_eq!(wanted, right, "{on:?} {profile:?}: {name}");
            }
        }
    }
}

/// A value that stands twice would have two meanings.
#[test]
fn rules_are_choices() {
    fn check(name: &str, rule: &Rule) {
        if let Rule::By {
            argument,
            mask,
            cases,
            otherwise,
        } = rule
        {
            assert!(*argument < 6, "{name}");
            let mut seen = BTreeSet::new();
            for (value, rule) in cases {
                assert!(seen.insert(value), "{name}: {value:#x} stands twice");
                assert_eq!(value & !mask, 0, "{name}: {value:#x} can not be");
                check(name, rule);
            }
            check(name, otherwise);
        }
    }
    for profile in [Profile::Strict, Profile::Default, Profile::Interpreter] {
        for name in names() {
            check(name, &arguments::rule(name, profile, HOST));
        }
    }
}

/// Numbers as the kernel's headers have them, as far as the installed ones go. The generic list is
/// that of aarch64.
#[test]
fn numbers_are_the_kernels() {
    let places = [
        (X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 350),
        (Aarch64, "/usr/include/asm-generic/unistd.h", 280),
    ];
    for (on, path, at_least) in places {
        let header = fs::read_to_string(path).unwrap_or_else(|error| {
            panic!("{path}: {error}\nhint: apt-get install linux-libc-dev")
        });
        let mut compared = 0;
        for line in header.lines() {
            let mut words = line.split_whitespace();
            let (Some("#define"), Some(name), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Some(name) = name
                .strip_prefix("__NR_")
                .or(name.strip_prefix("__NR3264_"))
            else {
                continue;
            };
            let Ok(value) = value.parse::<u32>() else {
                continue;
            };
            // The generic header's own name for a call, the start of its reserved range, its end, and
            // what 64-bit ARM leaves out.
            let name = match (on, name) {
                (Aarch64, "fstatat") => "newfstatat",
                (Aarch64, "arch_specific_syscall" | "syscalls" | "sync_file_range2") => continue,
                (Aarch64, name) if name.contains("time64") => continue,
                (_, name) => name,
            };
            assert_eq!(number(name, on), Some(value), "{path}: {name}");
            compared += 1;
        }
        assert!(compared >= at_least, "{path}: {compared}");
    }
}

#[test]
fn numbers_stand_once_and_below_the_end() {
    for on in [X86_64, Aarch64] {
        let mut seen = BTreeSet::new();
        for name in names() {
            if let Some(number) = number(name, on) {
                assert!(number < NUMBERS_KNOWN, "{name}");
                assert!(seen.insert(number), "{on:?}: {name} is {number} as well");
            }
        }
        assert!(seen.len() > 300, "{on:?}: {}", seen.len());
    }
}
