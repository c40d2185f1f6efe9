//! `stockade run`: a worker inside its fence, its streams, signals and exit code passed through.
//!
//! Through the agent where a tool is named; with an engine of its own where a policy file is.

mod alone;
mod plain;
mod source;
mod streams;
mod through;

pub(in crate::cli) use alone::{run_alone, this_process};

use std::{path::PathBuf, process::ExitCode};

use super::{Failure, Target, report::Explain};
use crate::exit::Code;

/// Runs a tool's worker inside its fence, or any command under a policy file.
#[derive(Debug, clap::Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Tool to run, by the agent's policies.
    #[arg(
        value_name = "TOOL",
        required_unless_present = "policy",
        conflicts_with = "policy"
    )]
    tool: Option<String>,
    /// Policy file: run without an agent, and leave nothing behind.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Keep the journal of a run without an agent in this file.
    #[arg(long, value_name = "FILE", requires = "policy")]
    journal: Option<PathBuf>,
    /// Configuration file whose `[dns]` holds for a run without an agent.
    #[arg(long, value_name = "FILE", requires = "policy")]
    config: Option<PathBuf>,
    /// Print on stderr the lines that would have allowed what the run did; its policy only observes.
    #[arg(long, requires = "policy")]
    suggest: bool,
    /// Explain on stderr what was refused.
    #[arg(
        long, value_name = "WHEN", value_enum, default_value = "auto",
        num_args = 0..=1, default_missing_value = "always", require_equals = true
    )]
    explain: Explain,
    /// Give the worker the streams of this process themselves: its output is not counted, and may
    /// steer a terminal.
    #[arg(long)]
    raw: bool,
    /// Arguments for the tool, or the command to run under the policy file.
    #[arg(last = true, value_name = "ARGUMENT")]
    trailing: Vec<String>,
}

/// By itself clap names the tool alone where both ways in lack.
const USAGE: &str = "\
stockade run [OPTIONS] <TOOL> [-- <ARGUMENT>...]
       stockade run [OPTIONS] --policy <FILE> [-- <COMMAND>...]";

const EXAMPLES: &str = "\
Examples:
  stockade run invoice -- --dry-run
  stockade run --policy policies/web.toml -- /usr/bin/curl http://192.0.2.1/";

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        target,
        tool,
        policy,
        journal,
        config,
        suggest,
        explain,
        raw,
        trailing,
    } = arguments;
    match (policy, tool) {
        (Some(policy), _) => alone::run(
            &policy,
            alone::Wishes {
                journal,
                config,
                suggest,
                explain,
                raw,
            },
            trailing,
        ),
        (None, Some(tool)) => through::run(&target, tool, trailing, raw, explain),
        (None, None) => Err(Failure::said(Code::Usage, "run: no tool and no policy")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn without_a_tool_the_policy_file_is_named() {
        let line = crate::cli::command().try_get_matches_from(["stockade", "run"]);
        expect_test::expect![[r"
            error: the following required arguments were not provided:
              <TOOL>

            Usage: stockade run [OPTIONS] <TOOL> [-- <ARGUMENT>...]
                   stockade run [OPTIONS] --policy <FILE> [-- <COMMAND>...]

            For more information, try '--help'.
        "]]
        .assert_eq(&line.unwrap_err().to_string());
    }
}
