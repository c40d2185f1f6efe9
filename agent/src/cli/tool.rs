//! `stockade tool`: the kill switch.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{Failure, Target, ask};
use crate::{
    daemon::control::protocol::{Reply, Request},
    exit::Code,
};

/// Takes no calls of a tool any more, or takes them again.
///
/// Off is in force at once, over restarts too; calls that run are ended. `stockade status` shows what
/// is off.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stockade tool off invoice\n  stockade tool on invoice")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Where the switch is to stand.
    #[arg(value_enum)]
    stand: Stand,
    /// The tool.
    tool: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Stand {
    /// Calls are refused.
    Off,
    /// Calls are taken.
    On,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        target,
        stand,
        tool,
    } = arguments;
    let request = Request::Switch {
        tool: tool.clone(),
        on: *stand == Stand::On,
    };
    let Reply::Switched { changed } = ask(target, &request)? else {
        return Err(Failure::odd_answer());
    };
    let stand = match stand {
        Stand::Off => "off",
        Stand::On => "on",
    };
    let already = if changed { "" } else { " already" };
    writeln!(io::stdout(), "{tool}: {stand}{already}")?;
    Ok(Code::Ok.into())
}
