//! Resident memory of the agent at rest and for each session more, its helpers included.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use lab::{Lab, agent::Agent, binary::Scratch, prober::Prober};

use crate::row::Row;

const SESSIONS: u32 = 100;
const SETTLE: Duration = Duration::from_millis(500);

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(&[])?;
    let scratch = Scratch::new()?;
    scratch.install("prober")?;
    let agent = Agent::start_in(lab.host(), scratch, &[("stamp", crate::launch::POLICY)])?;
    let agent_id = agent.id().context("a running agent")?;
    // One launch makes what is made once per policy.
    agent.run("stamp", &["stamp"])?;
    std::thread::sleep(SETTLE);
    let rest = resident(agent_id)?;
    let helpers = descendants(agent_id)?;
    let beside: f64 = helpers.iter().filter_map(|id| private(*id).ok()).sum();
    let mut probers = Vec::new();
    for _ in 0..SESSIONS {
        let mut command = agent.tool("stamp", &[])?;
        command.stderr(Stdio::null());
        let mut prober = Prober::start(lab.host(), &mut command)?;
        prober.ask("sleep 0")?;
        probers.push(prober);
    }
    std::thread::sleep(SETTLE);
    let busy = resident(agent_id)?;
    let mib = 1024.0;
    Ok(vec![
        Row::new(
            "memory",
            "stockade",
            "agent_at_rest",
            "MiB",
            &mut [rest / mib],
        ),
        Row::new(
            "memory",
            "stockade",
            "launcher_and_template_private",
            "MiB",
            &mut [beside / mib],
        ),
        Row::new(
            "memory",
            "stockade",
            "per_session",
            "KiB",
            &mut [(busy - rest) / f64::from(SESSIONS)],
        ),
    ])
}

/// Resident memory of a process, KiB.
fn resident(process: u32) -> Result<f64> {
    field(
        &fs::read_to_string(format!("/proc/{process}/status"))?,
        "VmRSS:",
    )
}

/// The most that was ever resident of a process, KiB.
pub(crate) fn peak(process: u32) -> Result<f64> {
    field(
        &fs::read_to_string(format!("/proc/{process}/status"))?,
        "VmHWM:",
    )
}

/// Memory that a process shares with nobody, KiB.
fn private(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    Ok(field(&text, "Private_Dirty:")? + field(&text, "Private_Clean:")?)
}

fn field(text: &str, name: &str) -> Result<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no such field")?
        .parse()
        .context("no number")
}

fn descendants(process: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            found.push(child);
            found.extend(descendants(child).unwrap_or_default());
        }
    }
    Ok(found)
}
