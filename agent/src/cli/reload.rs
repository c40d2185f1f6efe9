//! `stockade reload`: puts the policy folder in force as it is now.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{Failure, Target, ask};
use crate::{
    daemon::control::protocol::{Reply, Request},
    exit::Code,
};

/// Makes the agent read its policy folder again. A folder with an error changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  stockade policy check /etc/stockade/policies.d/*.toml && stockade reload"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Reply::Reloaded { policies } = ask(&arguments.target, &Request::Reload {})? else {
        return Err(Failure::odd_answer());
    };
    writeln!(io::stdout(), "{policies} policies in force")?;
    Ok(Code::Ok.into())
}
