//! How long a policy change takes: writing ten thousand rules, and putting them in force; and the whole
//! of `policy push`, from the start of the command to its end.

use std::{fmt::Write as _, fs, sync::Arc, time::Instant};

use agent::{
    config::Instance,
    kernel::{Kernel, PolicyInForce, cgroup, remove_pins},
    policy::{self, compiled::CompiledPolicy},
};
use anyhow::{Context as _, Result, ensure};
use common::id::PolicyId;

use crate::row::Row;

const RULES: usize = 10_000;
const ROUNDS: usize = 21;
/// Pushes, which take far longer than the change in the kernel.
const PUSHES: usize = 11;

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = lab::Lab::unrecorded(&[])?;
    let instance = Instance::new(&lab::agent::instance_name()).context("a name")?;
    let parent = cgroup::Parent::create(&instance)?;
    let measured = lab.host().enter(|| measure(&instance, &parent));
    remove_pins(&instance)?;
    parent.remove()?;
    let mut rows = measured??;
    rows.push(pushed(&lab)?);
    Ok(rows)
}

/// `policy push` of a set of which no rule stays: compiled twice (by the command, for its pictures, and
/// by the agent), kept on the disk, written into the folder, put in force.
fn pushed(lab: &lab::Lab) -> Result<Row> {
    let agent = lab::agent::Agent::start(lab.host(), &[("bench", &text(76)?)])?;
    let mut files = Vec::new();
    for last in [77, 78] {
        let folder = agent.scratch().path().join(last.to_string());
        fs::create_dir(&folder)?;
        let file = folder.join("bench.toml");
        fs::write(&file, text(last)?)?;
        files.push(file.display().to_string());
    }
    let mut took = Vec::new();
    for (round, file) in (0..PUSHES).zip(files.iter().cycle()) {
        let began = Instant::now();
        let output = agent.policy(&["push", file])?;
        ensure!(output.status.success(), "{output:?}");
        if round > 0 {
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(Row::new(
        "policy",
        "stockade",
        "push_10000_rules",
        "ms",
        &mut took,
    ))
}

fn measure(instance: &Instance, parent: &cgroup::Parent) -> Result<Vec<Row>> {
    let kernel = Kernel::open(instance, parent)?;
    let sets = [compiled(77)?, compiled(78)?];
    let (mut publish, mut flip) = (Vec::new(), Vec::new());
    for (round, policy) in (0..ROUNDS).zip(sets.iter().cycle()) {
        let synced = kernel.sync(&[PolicyInForce {
            id: PolicyId(1),
            policy: Arc::clone(policy),
        }])?;
        if round > 0 {
            publish.push(synced.publish_duration().as_secs_f64() * 1e3);
            flip.push(synced.flip_duration().as_secs_f64() * 1e6);
        }
    }
    Ok(vec![
        Row::new(
            "policy",
            "stockade",
            "publish_10000_rules",
            "ms",
            &mut publish,
        ),
        Row::new("policy", "stockade", "flip", "µs", &mut flip),
    ])
}

/// Every rule differs between two sets, so nothing can be kept.
fn compiled(last: u8) -> Result<Arc<CompiledPolicy>> {
    let policy = policy::compile("bench.toml", &text(last)?)
        .map_err(|error| anyhow::anyhow!("the policy does not compile: {error}"))?;
    Ok(Arc::new(policy))
}

fn text(last: u8) -> Result<String> {
    let mut text = "version = 1\ntool = \"bench\"\ndescription = \"Ten thousand rules\"\n\
                    [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
                    [filesystem]\nexecute = [\"/usr/bin\"]\n"
        .to_owned();
    for number in 0..RULES {
        let (high, low) = (number / 256, number % 256);
        writeln!(
            text,
            "[[egress.allow]]\ncidr = \"20.{high}.{low}.{last}/32\"\nports = [443]"
        )?;
    }
    Ok(text)
}
