//! `stockade doctor`: what this host has and lacks, each gap with what to do about it; and with
//! `--probe`, whether a fence on this host is tight.

mod clock;
mod groups;
mod host;
mod names;
mod policies;
mod probe;
mod selftest;
pub(super) mod worker;
mod world;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use super::{Failure, terminal::table};
use crate::exit::Code;

/// Hidden verb that the probe runs inside its fence.
pub(super) const WORKER_VERB: &str = "probe-worker";

/// Checks whether this host can fence workers; names each gap and its fix.
///
/// Ends with 69 where something needed is missing, with 1 where the probe found a way out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade doctor\n  stockade doctor --probe --json")]
pub(super) struct Arguments {
    /// Make a throw-away fence and try every way out of it. Nothing beyond namespaces of its own is
    /// ever dialled.
    #[arg(long)]
    probe: bool,
    /// Configuration file instead of /etc/stockade/stockade.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.probe {
        return tight(arguments.json);
    }
    let checks = host::checks(arguments.config.as_deref());
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &checks)?;
        writeln!(stdout)?;
    } else {
        let rows: Vec<_> = checks.iter().map(host::Check::cells).collect();
        stdout.write_all(table(&["check", "state", "detail"], &rows).as_bytes())?;
        for (name, fix) in checks.iter().filter_map(host::Check::remedy) {
            writeln!(stdout, "\n{name}: {fix}")?;
        }
    }
    let usable = checks.iter().all(host::Check::is_no_obstacle);
    Ok(if usable { Code::Ok } else { Code::Unavailable }.into())
}

fn tight(json: bool) -> Result<ExitCode, Failure> {
    let rows = probe::probe()?;
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut stdout, &rows)?;
        writeln!(stdout)?;
    } else {
        stdout.write_all(probe::page(&rows).as_bytes())?;
    }
    let code = if probe::is_tight(&rows) {
        Code::Ok
    } else {
        Code::Finding
    };
    Ok(code.into())
}
