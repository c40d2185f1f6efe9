//! `stockade remove`: takes away what a stopped agent has left standing.

use std::process::ExitCode;

use super::{Failure, Target};
use crate::{daemon, exit::Code};

/// Removes hooks, pins, sessions' cgroups and run folder of an agent that does not run.
///
/// From then on nothing is fenced any more. Journal and keys stay. Refused while the agent runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  systemctl stop stockade.service && stockade remove")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    daemon::remove(&arguments.target.instance)?;
    Ok(Code::Ok.into())
}
