//! `stockade events`: what the kernel side decides, as it happens.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use common::verdict::Outcome;

use super::{Failure, Target, runtime};
use crate::{
    daemon::control::{
        channel::Channel,
        protocol::{Reply, Request},
    },
    exit::Code,
    observe::event::Event,
};

/// Shows decisions of the kernel side as they happen, until interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stockade events --follow --tool web --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Go on until interrupted (what has happened is in the log and the journal).
    #[arg(long, required = true)]
    follow: bool,
    /// Of this session only.
    #[arg(long, value_name = "ID")]
    session: Option<u64>,
    /// Of this tool only.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    runtime()?.block_on(follow(arguments))
}

async fn follow(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut channel = Channel::connect(&arguments.target.instance.control_socket()).await?;
    let request = Request::Events {
        session: arguments.session,
        tool: arguments.tool.clone(),
    };
    channel.send(&request).await?;
    while let Some(reply) = channel.receive().await? {
        match reply {
            Reply::Event(event) if arguments.json => {
                writeln!(io::stdout(), "{}", serde_json::to_string(&event)?)?;
            }
            Reply::Event(event) => writeln!(io::stdout(), "{}", line(&event))?,
            Reply::Lost { events } => writeln!(io::stderr(), "{events} events lost: too slow")?,
            Reply::Refused(refused) => return Err(refused.into()),
            Reply::Started(_)
            | Reply::Ended(_)
            | Reply::Status(_)
            | Reply::Sessions { .. }
            | Reply::Grants { .. }
            | Reply::Switched { .. }
            | Reply::Token(_)
            | Reply::Attachment(_)
            | Reply::Policies(_)
            | Reply::Suggested(_)
            | Reply::Reloaded { .. } => return Err(Failure::odd_answer()),
        }
    }
    Ok(Code::Ok.into())
}

fn why(event: &Event) -> String {
    match (&event.rule, event.outcome) {
        (Some(rule), Outcome::Allow) => rule.clone(),
        (Some(rule), _) => format!("{} (beside {rule})", event.reason.label()),
        (None, _) => event.reason.label().to_owned(),
    }
}

fn line(event: &Event) -> String {
    let session = event
        .session
        .map_or_else(|| "-".to_owned(), |id| id.to_string());
    format!(
        "{} {} session {session} {} {} at {}: {}",
        event.time,
        event.tool.as_deref().unwrap_or("unknown"),
        event.outcome.label(),
        event.destination(),
        event.hook.label(),
        why(event),
    )
}
