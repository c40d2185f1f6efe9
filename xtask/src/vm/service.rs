//! The package in a machine: installed, killed, upgraded, removed under systemd.

use std::{path::Path, time::Duration};

use super::{Kernel, image::Image, machine::Machine, payload::Payload, suite::quoted};
use crate::{
    package::{Parts, Profile},
    phase::{self, Tally},
    tree,
};

/// The guest's script, in the tree.
const SCRIPT: &str = "xtask/src/vm/guest/service.sh";

/// How much of a package's life is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// Installed, confined, given policies, killed once, purged.
    Core,
    /// Everything, with an upgrade to a package of this tree that is newer.
    Whole,
}

impl Extent {
    /// The script's first argument.
    const fn word(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Whole => "whole",
        }
    }

    /// A machine takes some minutes, and its host may have other work.
    const fn limit(self) -> Duration {
        match self {
            Self::Core => Duration::from_mins(40),
            Self::Whole => Duration::from_mins(90),
        }
    }

    fn versions(self) -> Vec<String> {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Self::Core => vec![version.to_owned()],
            Self::Whole => vec![version.to_owned(), format!("{version}+new")],
        }
    }
}

/// Runs the script on each of the kernels.
pub(crate) fn run(kernels: &[Kernel], extent: Extent) -> anyhow::Result<Tally> {
    let image = Image::ensure()?;
    let parts = Parts::build(Profile::Dev)?;
    let mut payload = Payload::new()?;
    let mut words = vec![format!("sh {SCRIPT} {}", extent.word())];
    for version in extent.versions() {
        let deb = parts.deb(&version)?;
        payload.add(&deb)?;
        words.push(quoted(deb.strip_prefix(tree::root()).unwrap_or(&deb)));
        words.push(quoted(Path::new(&version)));
    }
    let disk = payload.disk(&words.join(" "))?;
    let mut sum = Tally::default();
    for &kernel in kernels {
        eprintln!("\n== the service on kernel {}", kernel.name());
        let machine = Machine {
            image: &image,
            kernel,
            payload: &disk,
            limit: extent.limit(),
        };
        sum = sum.add(on(&machine));
    }
    Ok(sum)
}

/// What the script counted; it has failed where it did not come to its end.
fn on(machine: &Machine<'_>) -> Tally {
    let mut tally = Tally::default();
    let ended = machine.run(|line| tally = tally.add(phase::count(line).unwrap_or_default()));
    match ended {
        Ok(0) if tally != Tally::default() => tally,
        Ok(_) if tally.failed > 0 => tally,
        Ok(code) => {
            eprintln!(
                "error: the script ended with {code} and {} checks",
                tally.passed
            );
            tally.add(Tally::FAILED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            tally.add(Tally::FAILED)
        }
    }
}
