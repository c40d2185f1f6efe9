//! The one entry: `cargo xtask VERB`, one file a verb.
//!
//! A verb knows what is run and in which order; how a process is run is in `process`, where things
//! lie in `tree`, what a machine must have in `needs`, and which compiler makes the kernel object in
//! `toolchain`. Nothing here depends on the agent: it is built before the agent can be.

mod architecture;
mod bench;
mod build;
mod cross;
mod demo;
mod deny;
mod doctor;
mod failures;
mod generate;
mod hook_table;
mod hooks;
mod lint;
mod needs;
mod package;
mod peers;
mod phase;
mod privileges;
mod process;
mod servers;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod tree;
mod vm;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Sets up, builds, checks, tests and measures Stockade.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks: packages, the linker for the kernel object, checkers
    Setup,
    /// Build the kernel object, then the workspace
    Build {
        /// Optimised, for measuring and installing
        #[arg(long)]
        release: bool,
    },
    /// Run every check and test; the last line is `N passed, N failed`
    Test {
        /// Larger counts and longer soaks
        #[arg(long)]
        long: bool,
        /// Instead: what asks the kernel, in emulated machines with the kernels of Debian 12
        #[arg(long, conflicts_with = "long")]
        vm: bool,
        /// With one of them only
        #[arg(long, requires = "vm")]
        kernel: Option<vm::Kernel>,
        /// Only one part
        #[arg(long, requires = "vm")]
        part: Option<vm::Part>,
        /// Only tests whose names contain this; may be said several times
        #[arg(long, requires = "vm")]
        filter: Vec<String>,
    },
    /// Run a command in emulated machines with the kernels of Debian 12; without one, `doctor`
    Vm {
        /// On one of them only
        #[arg(long)]
        kernel: Option<vm::Kernel>,
        /// The command, run at the root of a copy of this tree
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Make a Debian package and a tarball, in target/package
    Package {
        /// With a binary that is quick to build, to try the package out
        #[arg(long)]
        dev: bool,
        /// Version of the package instead of the workspace's
        #[arg(long)]
        version: Option<String>,
    },
    /// Record what becomes of every row of the hook table, kernel by kernel, in docs/hooks
    Hooks {
        /// On this kernel only
        #[arg(long)]
        only: Option<hooks::Where>,
    },
    /// Show the main job in a lab made for it
    Demo {
        /// Arguments for the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure against bare sockets and peers: [BENCH [PART…]]… [--json FILE]
    Bench {
        /// Arguments for the bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check formatting, clippy of both targets, and the documentation
    Lint,
    /// Check the rules of the house that no compiler knows
    Tidy,
    /// Compile and lint everything for aarch64; run there, emulated, the tests that ask no kernel
    Cross,
    /// Check licences, sources and bans of the dependencies
    Deny,
    /// Write the files that are generated from code
    Generate {
        /// Write nothing; fail where a file is out of date
        #[arg(long)]
        check: bool,
    },
    /// Name what this machine lacks, with the fix
    Doctor,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Build { release } => build::run(release),
        Verb::Test {
            vm: true,
            kernel,
            part,
            filter,
            ..
        } => return said(vm::test(kernel, part, &filter)),
        Verb::Test { long, .. } => return test::run(long),
        Verb::Vm { kernel, command } => return said(vm::run(kernel, &command)),
        Verb::Package { dev, version } => package::run(dev, version.as_deref()),
        Verb::Hooks { only } => hooks::run(only),
        Verb::Demo { arguments } => demo::run(&arguments),
        Verb::Bench { arguments } => bench::run(&arguments),
        Verb::Lint => lint::run(),
        Verb::Tidy => tidy::run(),
        Verb::Cross => cross::run(),
        Verb::Deny => deny::run(),
        Verb::Generate { check } => generate::run(check),
        Verb::Doctor => doctor::run(),
    };
    said(outcome.map(|()| ExitCode::SUCCESS))
}

fn said(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
