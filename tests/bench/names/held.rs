//! What the agent's resident memory grows by when sessions hold many names and grants.
//!
//! Each name has an address of its own, so every one is a grant. The cache of answers is bounded; its
//! size is a row of its own, so that nobody takes it for the number of names.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lab::{
    agent::METRICS,
    metrics::{self, Sample},
};

use super::{ANY_SERVER, Scene, numbers};
use crate::row::Row;

const HELD: u64 = 100_000;
/// No session may hold them all.
const HOLDERS: u64 = 20;
/// Questions on the way at once.
const WINDOW: u64 = 32;
const SETTLE: Duration = Duration::from_millis(500);

/// The rows of this part.
pub(crate) fn run() -> Result<Vec<Row>> {
    let scene = Scene::new()?;
    let process = scene.agent.id().context("a running agent")?;
    let mut holders = Vec::new();
    for _ in 0..HOLDERS {
        holders.push(scene.worker()?);
    }
    for prober in &mut holders {
        prober.ask("sleep 0")?;
    }
    std::thread::sleep(SETTLE);
    let before = resident(process)?;
    let each = HELD / HOLDERS;
    for (number, prober) in (0..).zip(&mut holders) {
        let first = 1_000_000 + number * each;
        let script =
            format!("load {ANY_SERVER} n{{}}.bench.example {first} {each} {each} {WINDOW}");
        let values = numbers(&prober.ask(&script)?)?;
        ensure!(values.get(3) == Some(&0.0), "without address: {values:?}");
    }
    std::thread::sleep(SETTLE);
    let after = resident(process)?;
    let page = metrics::get(scene.lab.host(), METRICS, "/metrics")?;
    let samples = metrics::parse(&page);
    #[expect(clippy::cast_precision_loss, reason = "a count of names")]
    let held = HELD as f64;
    let grants = sum(&samples, "stockade_grants")?;
    ensure!(grants >= held, "{grants} grants of {held}");
    let row = |metric, unit, value: f64| Row {
        n: HELD,
        ..Row::new("names", "stockade", metric, unit, &mut [value])
    };
    Ok(vec![
        row("agent_with_20_sessions", "MiB", before / 1024.0),
        row("agent_with_100000_names", "MiB", after / 1024.0),
        row(
            "memory_per_name_and_grant",
            "B",
            (after - before) * 1024.0 / held,
        ),
        row("grants_held", "", grants),
        row(
            "answers_in_cache",
            "",
            sum(&samples, "stockade_dns_cache_entries")?,
        ),
    ])
}

fn sum(samples: &[Sample], name: &str) -> Result<f64> {
    ensure!(
        samples.iter().any(|sample| sample.name == name),
        "no metric `{name}`"
    );
    Ok(metrics::sum(samples, name, &[]))
}

/// Resident memory of a process, KiB.
fn resident(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("VmRSS")?.trim().trim_end_matches(" kB");
    Ok(words.parse()?)
}
