//! Formatting, clippy of the host's crates and of the kernel object, documentation.

use crate::{
    architecture::Architecture,
    build, process,
    setup::{self, Scope},
    toolchain::Toolchain,
};

/// The verb.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure(Scope::Build)?;
    build::kernel_object()?;
    format()?;
    clippy_kernel()?;
    clippy()?;
    documentation()
}

/// `rustfmt` would change nothing.
pub(crate) fn format() -> anyhow::Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))
}

/// Clippy has no warning for the host's crates.
pub(crate) fn clippy() -> anyhow::Result<()> {
    let mut command = process::cargo();
    command
        .arg("clippy")
        .args(build::WORKSPACE)
        .arg("--all-targets");
    process::run(command.args(["--", "-D", "warnings"]))
}

/// Clippy has no warning for the kernel object, under the target it is built for.
pub(crate) fn clippy_kernel() -> anyhow::Result<()> {
    clippy_kernel_for(Architecture::NATIVE)
}

/// The same of the kernel object for hosts with this processor.
pub(crate) fn clippy_kernel_for(host: Architecture) -> anyhow::Result<()> {
    let mut command = Toolchain::choose()?.cargo("clippy", host)?;
    process::run(command.args(["--", "-D", "warnings"]))
}

/// The documentation has no broken link.
pub(crate) fn documentation() -> anyhow::Result<()> {
    let mut command = process::cargo();
    command
        .arg("doc")
        .args(build::WORKSPACE)
        .args(["--no-deps", "--document-private-items"]);
    // Links to private items resolve here, and nobody reads this documentation without them.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    process::run(command.env("RUSTDOCFLAGS", flags))
}
