//! What `check` says of a system call's name is what the sandbox says when it builds a filter.

use crate::{
    policy::{
        compiled::{Profile, Syscalls},
        profile::{allowable, known},
        syscall_names::{Architecture, names},
    },
    sandbox::syscalls::{Host, meaning},
};

fn taken(allow: &[&str], deny: &[&str]) -> bool {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let syscalls = Syscalls {
        profile: Profile::Interpreter,
        allow: list(allow),
        deny: list(deny),
    };
    let host = Host {
        abstract_sockets_scoped: true,
        memfd_noexec: true,
        named_unix_streams: false,
        keeps_files: false,
    };
    meaning(&syscalls, host, Architecture::NATIVE).is_ok()
}

#[test]
fn the_policy_and_the_sandbox_agree_on_every_name() {
    let mut apart = Vec::new();
    for name in names().chain(["", "reed", "SYS_read"]) {
        if allowable(name).is_ok() != taken(&[name], &[]) {
            apart.push(format!("allow {name}: policy {}", allowable(name).is_ok()));
        }
        if known(name).is_ok() != taken(&[], &[name]) {
            apart.push(format!("deny {name}: policy {}", known(name).is_ok()));
        }
    }
    assert_eq!(apart, [""; 0]);
}

#[test]
fn names_are_ordered() {
    assert!(names().is_sorted());
}
