//! `stockade policy history` and `stockade policy rollback`: the sets that were in force.

use clap::Args;
use serde_json::json;

use super::{change, print::Answer};
use crate::{
    cli::{Failure, Target, terminal::table},
    daemon::{
        Entry,
        control::policies::{PolicyReply, PolicyRequest},
    },
    exit::Code,
};

const ROLLBACK_HELP: &str = "\
The policy folder is written anew: it holds the files of that set afterwards, and nothing that was
changed there and never put in force.

Exit codes: 0 in force (with --dry-run: it would be), 2 no such set, 65 it does not compile any more,
73 not written, 75 no agent, 77 not permitted.

Examples:
  stockade policy rollback
  stockade policy rollback --dry-run 4f2a91c0";

/// Which agent.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 shown, 75 no agent, 77 not permitted.\n\n\
                  Example:\n  stockade policy history --json")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which set.
#[derive(Args, Debug)]
#[command(after_help = ROLLBACK_HELP)]
pub struct Rollback {
    #[command(flatten)]
    target: Target,
    /// How its digest begins; without it, the newest set that is not in force
    digest: Option<String>,
    /// Only say what would change: rules, sessions that would end, open flows that would be cut
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let (reply, _) = change::ask(&arguments.target, PolicyRequest::History {}, None)?;
    let PolicyReply::History { in_force, sets } = reply else {
        return Err(Failure::odd_answer().into());
    };
    if arguments.json {
        let value = json!({ "in_force": in_force, "sets": sets });
        return Answer::json(Code::Ok, &value);
    }
    let newest = sets
        .iter()
        .rposition(|entry| Some(&entry.digest) == in_force.as_ref());
    let rows: Vec<Vec<String>> = sets
        .iter()
        .enumerate()
        .rev()
        .map(|(place, entry)| row(entry, Some(place) == newest))
        .collect();
    let head = ["set", "since", "origin", "uid", "tools", "rules", ""];
    Ok(Answer::text(Code::Ok, table(&head, &rows)))
}

pub(super) fn rollback(arguments: &Rollback) -> anyhow::Result<Answer> {
    let Rollback {
        target,
        digest,
        dry_run,
        json,
    } = arguments;
    let request = PolicyRequest::Rollback {
        digest: digest.clone(),
        dry_run: *dry_run,
    };
    change::carry_out(target, request, None, *json)
}

fn row(entry: &Entry, in_force: bool) -> Vec<String> {
    let Entry {
        digest,
        time,
        origin,
        uid,
        tools,
        rules,
    } = entry;
    vec![
        change::short(digest).to_owned(),
        time.clone(),
        origin.word().to_owned(),
        uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
        tools.to_string(),
        rules.to_string(),
        if in_force { "in force" } else { "" }.to_owned(),
    ]
}
