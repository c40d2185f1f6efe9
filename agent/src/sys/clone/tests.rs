//! Processes that share memory, made by a copy of the test that has one thread.

use std::{cell::Cell, ffi::CString, fs::File, io};

use nix::{
    sys::{
        signal::{Signal, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{Became, Made, Place, Stack, make};
use crate::sys::process::{self, Side, SingleThreaded, Vectors, fork};

/// Does it in a copy of the test's process: the copy has one thread.
fn holds(act: impl FnOnce(&SingleThreaded) -> io::Result<bool>) {
    let one = SingleThreaded::for_tests();
    match fork(&one).expect("a process") {
        Side::Child => process::exit_now(match act(&one) {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(_) => 2,
        }),
        Side::Parent(pid) => {
            let ended = waitpid(Pid::from_raw(pid), None).expect("its end");
            assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
        }
    }
}

#[test]
fn a_failure_comes_back_and_memory_is_shared() {
    holds(|one| {
        let (outer, inner) = (Stack::new()?, Stack::new()?);
        let count = Cell::new(0);
        let made: Made<(bool, bool)> = make(one, &outer, Place::Here, |_| {
            count.set(count.get() + 1);
            let made: io::Result<Made<i32>> = make(one, &inner, Place::Here, |_| {
                count.set(count.get() + 1);
                Err(7)
            });
            let told = made.is_ok_and(|made| made.became == Became::Failed(7));
            let busy = make(one, &outer, Place::Here, |_| Err(0_i32)).is_err();
            Err((told, busy))
        })?;
        Ok(made.became == Became::Failed((true, true)) && count.get() == 2)
    });
}

#[test]
fn a_program_leaves_nothing_but_its_end() {
    holds(|one| {
        let stack = Stack::new()?;
        let program = File::open("/bin/sh")?;
        let words = ["sh", "-c", "exit 42"].map(|word| CString::new(word).expect("a word"));
        let (arguments, none) = (Vectors::new(words.into()), Vectors::new(Vec::new()));
        let made: Made<i32> = make(one, &stack, Place::Here, |point| {
            let Err(error) = process::execute(&program, &arguments, &none, point);
            Err(error.raw_os_error().unwrap_or(0))
        })?;
        let ended = waitpid(Pid::from_raw(made.pid), None)?;
        Ok(made.became == Became::Program && matches!(ended, WaitStatus::Exited(_, 42)))
    });
}

#[test]
fn what_can_not_be_executed_and_what_was_killed_are_told_apart() {
    holds(|one| {
        let stack = Stack::new()?;
        let folder = File::open("/")?;
        let none = Vectors::new(Vec::new());
        let made: Made<i32> = make(one, &stack, Place::Here, |point| {
            let Err(error) = process::execute(&folder, &none, &none, point);
            Err(error.raw_os_error().unwrap_or(0))
        })?;
        let refused = made.became == Became::Failed(libc::EACCES);
        let made: Made<i32> = make(one, &stack, Place::Here, |_| {
            // What it returns is never seen.
            Err(raise(Signal::SIGKILL).map_or(1, |()| 2))
        })?;
        Ok(refused && made.became == Became::Killed)
    });
}
