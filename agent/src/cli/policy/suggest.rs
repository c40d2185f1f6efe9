//! `stockade policy suggest`: the lines that would have allowed what an observed tool did.

use anyhow::Context as _;
use clap::Args;

use super::print::Answer;
use crate::{
    cli::{Failure, Target, ask},
    daemon::control::protocol::{Reply, Request, Suggestion},
    exit::Code,
    policy::quantity,
};

/// Which tool, and what of it.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 there are lines, 1 nothing was observed, 75 no agent.\n\n\
                        Examples:\n  \
                        stockade policy suggest weather\n  \
                        stockade policy suggest weather --since 2h"
)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The tool; its policy has `mode = "observe"`
    #[arg(value_name = "TOOL")]
    tool: String,
    /// What this session did
    #[arg(long, value_name = "ID")]
    session: Option<u64>,
    /// What was done of late, such as `30m`
    #[arg(long, value_name = "TIME", value_parser = quantity::seconds)]
    since: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let request = Request::Suggest {
        tool: arguments.tool.clone(),
        session: arguments.session,
        seconds: arguments.since,
    };
    let Reply::Suggested(suggestion) = ask(&arguments.target, &request)? else {
        return Err(Failure::odd_answer().into());
    };
    let code = code(&suggestion);
    if arguments.json {
        let value = serde_json::to_value(&suggestion).context("the answer has no JSON form")?;
        return Answer::json(code, &value);
    }
    Ok(Answer::text(code, suggestion.toml))
}

fn code(suggestion: &Suggestion) -> Code {
    if suggestion.rules == 0 && suggestion.remarks == 0 {
        Code::Finding
    } else {
        Code::Ok
    }
}
