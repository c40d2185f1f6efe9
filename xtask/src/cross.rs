//! Compiles everything for aarch64 on a host that is none: kernel object, programs, tests. The tests
//! that ask nothing of a kernel are run, each instruction emulated; nothing here says how an aarch64
//! kernel behaves.

use std::{path::PathBuf, process::Command};

use anyhow::bail;

use crate::{
    architecture::Architecture,
    build, lint, process,
    setup::{self, Scope},
    tree,
};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// Cargo's variables for the target, and Debian's programs.
const ENVIRONMENT: [(&str, &str); 2] = [
    (
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
        "aarch64-linux-gnu-gcc",
    ),
    (
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
        "qemu-aarch64 -L /usr/aarch64-linux-gnu",
    ),
];
/// Modules whose tests compute and ask no kernel: the tables of calls, the filters interpreted, what
/// is compiled from a policy.
const PURE: [&str; 3] = ["policy::", "sandbox::seccomp::", "sandbox::syscalls::"];

/// The verb.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure(Scope::Cross)?;
    library()?;
    build::kernel_object_for(Architecture::Aarch64)?;
    lint::clippy_kernel_for(Architecture::Aarch64)?;
    let workspace = build::WORKSPACE;
    let mut clippy = cargo("clippy");
    clippy.args(workspace).arg("--all-targets");
    process::run(clippy.args(["--", "-D", "warnings"]))?;
    process::run(cargo("build").args(workspace))?;
    process::run(cargo("test").args(workspace).arg("--no-run"))?;
    let mut tests = cargo("test");
    tests.args(workspace).args(["--lib", "--"]);
    process::run(tests.args(PURE))
}

/// The compiler's library for the target; rustup has it.
fn library() -> anyhow::Result<()> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(TRIPLE);
    if library.is_dir() {
        return Ok(());
    }
    if tree::program("rustup").is_none() {
        bail!(
            "{} is missing\nhint: install the standard library for {TRIPLE}, of the same compiler",
            library.display()
        );
    }
    process::run(Command::new("rustup").args(["target", "add", TRIPLE]))
}

fn cargo(verb: &str) -> Command {
    let mut command = process::cargo();
    command
        .arg(verb)
        .args(["--target", TRIPLE])
        .envs(ENVIRONMENT);
    command
}
