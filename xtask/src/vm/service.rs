//! The package in a machine: installed, killed, upgraded, removed under systemd.

use std::{path::Path, time::Duration};

use super::{Kernel, image::Image, machine::Machine, payload::Payload, suite::quoted};
use crate::{
    package::{Made, Parts, Profile},
    phase::{self, Tally},
    tree,
};

/// The guest's script, in the tree.
const SCRIPT: &str = "xtask/src/vm/guest/service.sh";
/// A machine takes some minutes, and its host may have other work.
const LIMIT: Duration = Duration::from_mins(90);

/// Runs the script on each of the kernels with two packages of this tree: the second one is newer.
pub(crate) fn run(kernels: &[Kernel]) -> anyhow::Result<Tally> {
    let image = Image::ensure()?;
    let parts = Parts::build(Profile::Dev)?;
    let old = env!("CARGO_PKG_VERSION").to_owned();
    let new = format!("{old}+new");
    let packages = [parts.package(&old)?, parts.package(&new)?];
    let mut payload = Payload::new()?;
    let mut words = vec![format!("sh {SCRIPT}")];
    for Made { deb, .. } in &packages {
        payload.add(deb)?;
        let name = deb.strip_prefix(tree::root()).unwrap_or(deb);
        words.push(quoted(name));
    }
    words.extend([old, new].map(|version| quoted(Path::new(&version))));
    let disk = payload.disk(&words.join(" "))?;
    let mut sum = Tally::default();
    for &kernel in kernels {
        eprintln!("\n== the service on kernel {}", kernel.name());
        sum = sum.add(on(&image, kernel, &disk));
    }
    Ok(sum)
}

fn on(image: &Image, kernel: Kernel, payload: &Path) -> Tally {
    let mut tally = Tally::default();
    let machine = Machine {
        image,
        kernel,
        payload,
        limit: LIMIT,
    };
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
