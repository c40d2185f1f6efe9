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
    sandbox::{Measure, State},
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
            "session", "tool", "started", "caller", "sent", "refused", "fence", "command",
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
        session.attached.as_ref().map_or_else(
            || fence(&session.enforced),
            |attached| around(&attached.weak),
        ),
        harmless(&session.command.join(" ")),
    ]
}

/// What a fence around somebody else's processes holds.
fn around(weak: &[String]) -> String {
    if weak.is_empty() {
        "attached: egress, names".to_owned()
    } else {
        format!("attached, weak: {}", harmless(&weak.join("; ")))
    }
}

/// How many measures are in force, and the names of those that are not.
fn fence(measures: &[Measure]) -> String {
    let mut held = 0_usize;
    let mut missing = Vec::new();
    for measure in measures {
        match measure.state {
            State::Enforced | State::Covered(_) => held = held.saturating_add(1),
            State::Missing(_) => missing.push(measure.name.as_ref()),
        }
    }
    if measures.is_empty() {
        "starting".to_owned()
    } else if missing.is_empty() {
        format!("{held} measures")
    } else {
        format!("{held} measures, not {}", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::fence;
    use crate::sandbox::{Measure, State};

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(fence(&[]), "starting");
        let mut measures = vec![
            Measure::new("root", State::Enforced, ""),
            Measure::new("data", State::Covered("memory".into()), ""),
        ];
        assert_eq!(fence(&measures), "2 measures");
        measures.push(Measure::new(
            "cpu",
            State::Missing("no controller".into()),
            "",
        ));
        assert_eq!(fence(&measures), "2 measures, not cpu");
    }
}
