//! `stockade policy push` and `stockade policy remove`: other policies put in force by the agent.

use std::path::PathBuf;

use clap::Args;

use super::{change, print::Answer};
use crate::{cli::Target, daemon::control::policies::PolicyRequest, exit::Code};

const PUSH_HELP: &str = "\
Each file takes the place of the policy of its tool, with its lock file and its schemas; other tools
stay as they are. The agent compiles the whole set that would come of it. With a mistake anywhere
nothing changes. Else the files are written into its policy folder, and rules change at once for
running sessions; command, filesystem, system calls and limits hold for new ones.

Exit codes: 0 in force (with --dry-run: it would be), 2 files that can not be pushed together,
65 a policy is wrong, 73 not written, 75 no agent or a folder that is not what is in force,
77 not permitted.

Examples:
  stockade policy push ./web.toml
  stockade policy push --dry-run ./web.toml ./mail.toml
  stockade policy push --replace ./policies";

const REMOVE_HELP: &str = "\
Exit codes: 0 gone (with --dry-run: it would be), 65 no policy names the tool, 73 not written,
75 no agent or a folder that is not what is in force, 77 not permitted.

Example:
  stockade policy remove --dry-run weather";

/// What to push.
#[derive(Args, Debug)]
#[command(after_help = PUSH_HELP)]
pub struct Push {
    #[command(flatten)]
    target: Target,
    /// Policy files, or a directory of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// They are the whole set: tools that they do not name are removed
    #[arg(long)]
    replace: bool,
    /// Only say what would change: rules, sessions that would end, open flows that would be cut
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What to remove.
#[derive(Args, Debug)]
#[command(after_help = REMOVE_HELP)]
pub struct Remove {
    #[command(flatten)]
    target: Target,
    /// The tools
    #[arg(required = true, value_name = "TOOL")]
    tools: Vec<String>,
    /// Only say what would change: rules, sessions that would end, open flows that would be cut
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Push) -> anyhow::Result<Answer> {
    let Push {
        target,
        paths,
        replace,
        dry_run,
        json,
    } = arguments;
    // Mistakes are shown with their pictures before anybody is asked.
    let files = match change::collect(paths)? {
        Ok(files) => files,
        Err(error) => return Answer::refused(Code::Policy, &error, *json),
    };
    let request = PolicyRequest::Push {
        replace: *replace,
        dry_run: *dry_run,
    };
    change::carry_out(target, request, Some(&files), *json)
}

pub(super) fn remove(arguments: &Remove) -> anyhow::Result<Answer> {
    let Remove {
        target,
        tools,
        dry_run,
        json,
    } = arguments;
    let request = PolicyRequest::Remove {
        tools: tools.clone(),
        dry_run: *dry_run,
    };
    change::carry_out(target, request, None, *json)
}
