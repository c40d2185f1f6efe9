//! Sets up, builds optimised, and hands over to the bench that the `tests` package has.

use std::{ffi::OsString, process::Command};

use crate::{
    build, peers, privileges, process,
    setup::{self, Scope},
    tree,
};

/// The verb.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    privileges::demand()?;
    setup::ensure(Scope::Bench)?;
    build::kernel_object()?;
    build::workspace(true)?;
    let mut command = Command::new(tree::target().join("release/bench"));
    command.current_dir(tree::root()).args(arguments);
    if launches(arguments) {
        peers::stamp()?;
        command.env(peers::LIST, peers::ensure()?);
    }
    process::run(&mut command)
}

/// Whether launches are measured: alone, or with everything.
fn launches(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter();
    let mut benches = 0;
    while let Some(word) = words.next() {
        if word == "launch" {
            return true;
        }
        if word == "--json" {
            // Its file.
            words.next();
        } else {
            benches += 1;
        }
    }
    benches == 0
}
