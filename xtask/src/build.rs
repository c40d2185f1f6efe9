//! Builds the kernel object, then the workspace that embeds it.

use std::fs;

use anyhow::Context as _;

use crate::{
    architecture::Architecture,
    process,
    setup::{self, Scope},
    toolchain::Toolchain,
    tree,
};

/// Everything that runs on this host. Always all of it: cargo unites the features of what is chosen,
/// and another choice builds the dependencies again.
pub(crate) const WORKSPACE: [&str; 4] = ["--locked", "--workspace", "--exclude", "ebpf"];

/// The verb.
pub(crate) fn run(release: bool) -> anyhow::Result<()> {
    setup::ensure(Scope::Build)?;
    kernel_object()?;
    workspace(release)
}

/// Builds the kernel object for this host.
pub(crate) fn kernel_object() -> anyhow::Result<()> {
    kernel_object_for(Architecture::NATIVE)
}

/// Builds the kernel object for hosts with this processor, and puts it where the agent's build script
/// looks.
pub(crate) fn kernel_object_for(host: Architecture) -> anyhow::Result<()> {
    let mut command = Toolchain::choose()?.cargo("build", host)?;
    let folder = tree::target();
    process::run(command.arg("--target-dir").arg(&folder))?;
    let built = folder.join("bpfel-unknown-none/release/ebpf");
    let object =
        fs::read(&built).with_context(|| format!("{} can not be read", built.display()))?;
    let place = tree::kernel_object(host);
    // Left alone when it is the same: a new time stamp would build the agent again.
    if fs::read(&place).is_ok_and(|there| there == object) {
        return Ok(());
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&place, object).with_context(|| format!("{} can not be written", place.display()))
}

/// Builds everything that runs on this host.
pub(crate) fn workspace(release: bool) -> anyhow::Result<()> {
    let mut command = process::cargo();
    command.arg("build").args(WORKSPACE);
    if release {
        command.arg("--release");
    }
    process::run(&mut command)
}
