//! `vm`: Stockade on the kernels of Debian 12, in machines that are emulated. One machine at a time,
//! because each takes the processors of a small host.

mod image;
mod machine;
mod payload;
mod programs;
mod service;
mod suite;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{bail, ensure};
use clap::ValueEnum;

use self::{image::Image, machine::Machine};
pub(crate) use self::{
    programs::{Kind, Programs},
    suite::quoted,
};
use crate::{
    phase::Tally,
    privileges,
    setup::{self, Scope},
    tree,
};

/// The kernels on which everything has to work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's own.
    #[value(name = "6.1")]
    Linux6_1,
    /// The newest that Debian 12 offers.
    #[value(name = "6.12")]
    Linux6_12,
}

impl Kernel {
    const ALL: [Self; 2] = [Self::Linux6_1, Self::Linux6_12];

    /// How its versions begin.
    const fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
        }
    }

    /// The package that always brings its newest version.
    const fn package(self) -> &'static str {
        match self {
            Self::Linux6_1 => "linux-image-cloud-amd64",
            Self::Linux6_12 => "linux-image-6.12-cloud-amd64",
        }
    }
}

/// How long a command may take, on a machine that is some ten times slower than its host.
const COMMAND_LIMIT: Duration = Duration::from_hours(1);

/// The verb: a command at the root of this tree, on each of the kernels, with its exit code.
pub(crate) fn run(kernel: Option<Kernel>, command: &[OsString]) -> anyhow::Result<ExitCode> {
    prepare()?;
    let image = Image::ensure()?;
    let programs = Programs::build()?;
    let words: Vec<_> = command
        .iter()
        .map(|word| suite::quoted(Path::new(word)))
        .collect();
    let script = match words.as_slice() {
        [] => "target/debug/stockade doctor".to_owned(),
        words => words.join(" "),
    };
    let payload = suite::payload(&programs)?.disk(&script)?;
    for kernel in chosen(kernel) {
        let machine = Machine {
            image: &image,
            kernel,
            payload: &payload,
            limit: COMMAND_LIMIT,
        };
        let code = machine.run(|_| ())?;
        if code != 0 {
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a script with these programs on one of the kernels and shows each line of its output.
pub(crate) fn script(
    kernel: Kernel,
    programs: &Programs,
    script: &str,
    line: impl FnMut(&str),
) -> anyhow::Result<()> {
    prepare()?;
    let machine = Machine {
        image: &Image::ensure()?,
        kernel,
        payload: &suite::payload(programs)?.disk(script)?,
        limit: COMMAND_LIMIT,
    };
    let code = machine.run(line)?;
    ensure!(code == 0, "the script ended with {code}");
    Ok(())
}

/// What is tested in machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Part {
    /// The tests that ask the kernel.
    Kernel,
    /// The package under systemd: install, kill, upgrade, remove.
    Service,
}

/// The parts, or one of them, on each of the kernels. The last line is as that of `test`.
pub(crate) fn test(
    kernel: Option<Kernel>,
    part: Option<Part>,
    filters: &[String],
) -> anyhow::Result<ExitCode> {
    prepare()?;
    let kernels = chosen(kernel);
    let mut tally = Tally::default();
    // A filter chooses among the tests.
    if part != Some(Part::Kernel) && filters.is_empty() {
        tally = tally.add(service::run(&kernels, service::Extent::Whole)?);
    }
    if part != Some(Part::Service) {
        tally = tally.add(suite::run(&kernels, filters)?);
    }
    let Tally { passed, failed } = tally;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The core of the service's part on Debian 12's own kernel: what every run of `test` holds.
pub(crate) fn core() -> anyhow::Result<Tally> {
    prepare()?;
    service::run(&[Kernel::Linux6_1], service::Extent::Core)
}

fn chosen(kernel: Option<Kernel>) -> Vec<Kernel> {
    kernel.map_or_else(|| Kernel::ALL.to_vec(), |kernel| vec![kernel])
}

fn prepare() -> anyhow::Result<()> {
    if !privileges::is_root() {
        bail!("the root of a machine is made with chroot\nhint: run it as root");
    }
    setup::ensure(Scope::Machine)
}

/// Where the disks and the consoles of the machines lie.
fn folder() -> anyhow::Result<PathBuf> {
    let folder = tree::target().join("vm");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
