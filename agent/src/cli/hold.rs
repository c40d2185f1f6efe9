//! `stockade hold`: the process that keeps the delegated cgroup of the workers.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use nix::sys::signal::{SigSet, Signal};

use super::Failure;
use crate::{exit::Code, kernel::cgroup};

/// Keeps the cgroup of `stockade-workers.service` alive. The service manager runs it.
///
/// Does nothing but wait for SIGTERM: the agent may end, be replaced and start again meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> Result<ExitCode, Failure> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    // What comes from now on is waited for.
    ends.thread_block().map_err(io::Error::from)?;
    let own = own_cgroup()?;
    let subgroup = own.join(cgroup::HOLDER);
    match fs::create_dir(&subgroup) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(not_held(&subgroup, &error));
        }
        Ok(()) | Err(_) => {}
    }
    let moved = fs::write(subgroup.join("cgroup.procs"), process::id().to_string());
    moved.map_err(|error| not_held(&subgroup, &error))?;
    ends.wait().map_err(io::Error::from)?;
    Ok(Code::Ok.into())
}

/// The cgroup of this process, in the hierarchy where it is mounted.
fn own_cgroup() -> Result<PathBuf, Failure> {
    let lacks = || Failure::said(Code::Unavailable, "cgroup: this process is in none of v2");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(path)
    });
    let places = fs::read_to_string("/proc/self/cgroup")?;
    let place = places.lines().find_map(|line| line.strip_prefix("0::/"));
    // In the root there is nothing to keep, and it is nobody's to divide.
    let place = place.filter(|place| !place.is_empty()).ok_or_else(lacks)?;
    Ok(Path::new(mount.ok_or_else(lacks)?).join(place))
}

fn not_held(path: &Path, error: &io::Error) -> Failure {
    let message = format!(
        "cgroup `{}`: {error}\nhint: it is run by stockade-workers.service, with `Delegate=yes`",
        path.display()
    );
    Failure::said(Code::CanNotCreate, message)
}
