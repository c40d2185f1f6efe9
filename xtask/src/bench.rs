//! Sets up, builds optimised, and hands over to the bench that the `tests` package has.

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
    build::workspace(true)?;
    let mut command = process::cargo();
    command.args([
        "run",
        "--release",
        "--quiet",
        "--locked",
        "-p",
        "tests",
        "--bin",
        "bench",
        "--",
    ]);
    process::run(command.args(arguments))
}
