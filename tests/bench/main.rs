//! What a fence costs: bare and fenced side by side in one run, packets beside an empty program,
//! launches and calls beside their peers, policy changes, memory. Prints a table with the numbers to reach;
//! `--json FILE` writes an array of rows.

mod broker;
mod fenced;
mod handshakes;
mod launch;
mod memory;
mod names;
mod network;
mod packets;
mod peers;
mod policies;
mod row;
mod steps;
mod trace;

use std::{path::PathBuf, process::ExitCode};

use agent::daemon::sweep_abandoned;
use anyhow::{Context as _, Result, bail};

use row::Row;

/// A piece that can be measured alone.
struct Part {
    bench: &'static str,
    /// Empty where the bench has one part only.
    name: &'static str,
    run: fn() -> Result<Vec<Row>>,
}

const PARTS: &[Part] = &[
    part("network", "", network::run),
    part("packet", "", packets::run),
    part("launch", "peers", launch::run),
    part("launch", "steps", steps::run),
    part("policy", "", policies::run),
    part("memory", "", memory::run),
    part("names", "resolver", names::resolver::run),
    part("names", "packets", names::packets::run),
    part("names", "handshakes", names::handshakes::run),
    part("names", "rounds", names::rounds::run),
    part("names", "held", names::held::run),
    part("broker", "calls", broker::calls::run),
    part("broker", "flood", broker::flood::run),
];

const USAGE: &str = "usage: bench [BENCH [PART…]]… [--json FILE]\n\
                     BENCH: network, packet, launch, policy, memory, names, broker\n\
                     PART of launch: peers, steps; of names: resolver, packets, handshakes, rounds, held; \
                     of broker: calls, flood";

const fn part(bench: &'static str, name: &'static str, run: fn() -> Result<Vec<Row>>) -> Part {
    Part { bench, name, run }
}

fn main() -> Result<ExitCode> {
    let mut json: Option<PathBuf> = None;
    let mut wanted = Wanted::default();
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == broker::flood::WORD).is_some() {
        broker::flood::pour(words)?;
        return Ok(ExitCode::SUCCESS);
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => json = Some(words.next().context(USAGE)?.into()),
            _ => wanted.add(word)?,
        }
    }
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for part in PARTS.iter().filter(|part| wanted.has(part)) {
        eprintln!("bench: {} {} …", part.bench, part.name);
        let measured = (part.run)();
        // A bench that broke off has killed its stand-alone run, which then leaves an instance.
        sweep_abandoned();
        match measured {
            Ok(measured) => rows.extend(measured),
            // What else was asked for took its time as well.
            Err(error) => failed.push(error.context(format!("{} {}", part.bench, part.name))),
        }
    }
    row::print(&rows);
    if let Some(path) = json {
        std::fs::write(&path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    for error in &failed {
        eprintln!("bench: {error:?}");
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was asked for: benches, and parts after their bench. Nothing stands for all.
#[derive(Default)]
struct Wanted(Vec<(String, Option<String>)>);

impl Wanted {
    fn add(&mut self, word: String) -> Result<()> {
        if PARTS.iter().any(|part| part.bench == word) {
            self.0.push((word, None));
            return Ok(());
        }
        if let Some((bench, _)) = self.0.last().cloned()
            && PARTS
                .iter()
                .any(|part| part.bench == bench && part.name == word)
        {
            self.0.push((bench, Some(word)));
            return Ok(());
        }
        bail!("`{word}`: {USAGE}")
    }

    fn has(&self, part: &Part) -> bool {
        let mut own = self.0.iter().filter(|(bench, _)| bench == part.bench);
        if self.0.is_empty()
            || own
                .clone()
                .any(|(_, name)| name.as_deref() == Some(part.name))
        {
            return true;
        }
        // A bench without a part after it is meant as a whole.
        own.clone().next().is_some() && own.all(|(_, name)| name.is_none())
    }
}
