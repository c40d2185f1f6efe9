//! What a fence costs: bare and fenced side by side in one run, packets beside an empty program,
//! launches beside their peers, policy changes, memory. Prints a table with the numbers to reach;
//! `--json FILE` writes an array of rows.

mod launch;
mod memory;
mod names;
mod network;
mod packets;
mod peers;
mod policies;
mod row;
mod steps;

use std::{path::PathBuf, process::ExitCode};

use agent::daemon::sweep_abandoned;
use anyhow::{Context as _, Result, bail};

use row::Row;

type Bench = fn() -> Result<Vec<Row>>;

const USAGE: &str = "usage: bench [network|packet|launch|steps|policy|memory|names]… [--json FILE]";

fn main() -> Result<ExitCode> {
    let mut json: Option<PathBuf> = None;
    let mut wanted = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "network" | "packet" | "launch" | "steps" | "policy" | "memory" | "names" => {
                wanted.push(word);
            }
            "--json" => json = Some(words.next().context(USAGE)?.into()),
            _ => bail!("`{word}`: {USAGE}"),
        }
    }
    let benches: [(&str, Bench); 7] = [
        ("network", network::run),
        ("packet", packets::run),
        ("launch", launch::run),
        ("steps", steps::run),
        ("policy", policies::run),
        ("memory", memory::run),
        ("names", names::run),
    ];
    let mut rows = Vec::new();
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            eprintln!("bench: {name} …");
            let measured = bench();
            // A bench that broke off has killed its stand-alone run, which then leaves an instance.
            sweep_abandoned();
            rows.extend(measured?);
        }
    }
    row::print(&rows);
    if let Some(path) = json {
        std::fs::write(&path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
