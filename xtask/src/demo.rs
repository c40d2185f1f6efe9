//! Sets up, builds, and hands over to the demo that the `tests` package has.

use std::{ffi::OsString, process::Command};

use crate::{
    build, privileges, process,
    setup::{self, Scope},
    tree,
};

/// The verb.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    privileges::demand()?;
    setup::ensure(Scope::Lab)?;
    build::kernel_object()?;
    build::workspace(false)?;
    let mut command = Command::new(tree::target().join("debug/demo"));
    process::run(command.current_dir(tree::root()).args(arguments))
}
