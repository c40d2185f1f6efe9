//! Every call that a profile does not list, made from inside a worker with arguments that mean
//! nothing, and outside: there the kernel looks at the arguments.

use std::{collections::BTreeMap, fmt::Write as _, process::Command};

use agent::{
    policy::{
        compiled::Profile,
        syscall_names::{Architecture, names, number},
    },
    sandbox::syscalls::{self, Host, Rule, Verdict},
};

use super::{numbers, with_profile};
use crate::fence::room::with_room;

/// The kernel makes these two for its own trampolines in user space, and shows them to no filter. It
/// answers whoever else makes them with `ENXIO` and `SIGILL`.
const UNFILTERED: &[&str] = &["uprobe", "uretprobe"];
/// Not made outside, where they work whatever the arguments: processes, a queue that stays, every disk
/// flushed, a terminal hung up.
const UNCONTROLLED: &[&str] = &["fork", "msgget", "sync", "vfork", "vhangup"];

const PROGRAM: &str = r"
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
for name in sys.argv[1:]:
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(NUMBERS[name]), *[ctypes.c_long(-1)] * 6)
    said = errno.errorcode[ctypes.get_errno()] if answer == -1 and ctypes.get_errno() else 'ok'
    print(name, said, flush=True)
";

#[test]
fn no_call_beyond_strict_is_made() {
    beyond("strict", Profile::Strict, 140);
}

#[test]
fn no_call_beyond_default_is_made() {
    beyond("default", Profile::Default, 90);
}

#[test]
fn no_call_beyond_interpreter_is_made() {
    beyond("interpreter", Profile::Interpreter, 70);
}

fn beyond(name: &str, profile: Profile, at_least: usize) {
    let refused = refused(profile);
    assert!(refused.len() >= at_least, "{}", refused.len());
    let program = numbers() + PROGRAM;
    let calls: Vec<_> = refused.keys().copied().collect();
    let mut command = vec!["/usr/bin/python3", "-c", &program];
    command.extend(&calls);
    let inside = with_room(async |room| room.run(&with_profile(name), &command).await);
    let controlled = calls.iter().filter(|call| !UNCONTROLLED.contains(*call));
    let control = Command::new("/usr/bin/python3")
        .args(["-c", &program])
        .args(controlled)
        .output()
        .expect("python");
    let outside = String::from_utf8_lossy(&control.stdout).into_owned();
    let (within, without) = (answers(&inside.stdout), answers(&outside));
    let mut wrong = String::new();
    for (call, wanted) in &refused {
        let got = within.get(*call).copied().unwrap_or("nothing");
        if got != *wanted {
            writeln!(wrong, "{call}: inside {got}, not {wanted}").expect("text");
        }
        let control = without.get(*call).copied();
        // A kernel without a call says so on both sides.
        let shows_nothing = control == Some(got) && got != "ENOSYS";
        if shows_nothing || (control.is_none() && !UNCONTROLLED.contains(call)) {
            writeln!(wrong, "{call}: the control says {control:?}").expect("text");
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n{inside:?}\n{control:?}");
    let lacking = without.values().filter(|said| **said == "ENOSYS").count();
    assert!(lacking < refused.len() / 3, "this kernel lacks {lacking}");
}

/// The calls of this architecture that a profile refuses whatever their arguments, and how.
fn refused(profile: Profile) -> BTreeMap<&'static str, &'static str> {
    let policy = agent::policy::compiled::Syscalls {
        profile,
        allow: Vec::new(),
        deny: Vec::new(),
    };
    let host = Host {
        abstract_sockets_scoped: true,
        memfd_noexec: true,
        named_unix_streams: false,
        keeps_files: false,
    };
    let native = Architecture::NATIVE;
    let meaning = syscalls::meaning(&policy, host, native).expect("the tables");
    names()
        .filter(|name| !UNFILTERED.contains(name))
        .filter_map(|name| match meaning.rule(number(name, native)?) {
            Rule::Always(Verdict::NotPermitted) => Some((name, "EPERM")),
            Rule::Always(Verdict::NotHere) => Some((name, "ENOSYS")),
            Rule::Always(_) | Rule::By { .. } => None,
        })
        .collect()
}

fn answers(output: &str) -> BTreeMap<&str, &str> {
    output
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect()
}
