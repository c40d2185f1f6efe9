//! Sets up, builds, and hands over to the demo that the `tests` package has.

use std::ffi::OsString;

use crate::{
    build, privileges, process,
    setup::{self, Scope},
};

/// The verb.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    privileges::demand()?;
    setup::ensure(Scope::Lab)?;
    build::kernel_object()?;
    build::workspace(false)?;
    let mut command = process::cargo();
    command.args([
        "run", "--quiet", "--locked", "-p", "tests", "--bin", "demo", "--",
    ]);
    process::run(command.args(arguments))
}
