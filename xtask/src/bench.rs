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
    let benches = benches(arguments);
    let measured = |bench: &str| benches.is_empty() || benches.iter().any(|own| *own == bench);
    if measured(peers::LAUNCH) {
        peers::stamp()?;
    }
    if [peers::LAUNCH, peers::BROKER].into_iter().any(measured) {
        command.env(peers::LIST, peers::ensure(measured)?);
    }
    process::run(&mut command)
}

/// The words that name benches and their parts; none stands for all.
fn benches(arguments: &[OsString]) -> Vec<&OsString> {
    let mut words = arguments.iter();
    let mut benches = Vec::new();
    while let Some(word) = words.next() {
        if word == "--json" {
            // Its file.
            words.next();
        } else {
            benches.push(word);
        }
    }
    benches
}
