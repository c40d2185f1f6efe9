//! `stockade sessions`: the sessions that are alive.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{
    Failure, Target, ask,
    terminal::{harmless, table},
};
use crate::{
    daemon::control::protocol::{Reply, Request, SessionInfo},
    exit::Code,
};

/// Lists the sessions that are alive.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stockade sessions --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Reply::Sessions { sessions } = ask(&arguments.target, &Request::Sessions {})? else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &sessions)?;
        writeln!(stdout)?;
    } else {
        let head = [
            "session", "tool", "started", "caller", "sent", "refused", "command",
        ];
        let rows: Vec<_> = sessions.iter().map(row).collect();
        stdout.write_all(table(&head, &rows).as_bytes())?;
    }
    Ok(Code::Ok.into())
}

fn row(session: &SessionInfo) -> Vec<String> {
    vec![
        session.session.to_string(),
        session.tool.clone(),
        session.started.clone(),
        format!("uid {}", session.caller_uid),
        format!("{} bytes", session.bytes_out),
        session.refused.to_string(),
        harmless(&session.command.join(" ")),
    ]
}
