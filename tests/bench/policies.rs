//! How long a policy change takes: writing ten thousand rules, and putting them in force.

use std::{fmt::Write as _, sync::Arc};

use agent::{
    config::Instance,
    kernel::{Kernel, PolicyInForce, cgroup, remove_pins},
    policy::{self, compiled::CompiledPolicy},
};
use anyhow::{Context as _, Result};
use common::id::PolicyId;

use crate::row::Row;

const RULES: usize = 10_000;
const ROUNDS: usize = 21;

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = lab::Lab::unrecorded(&[])?;
    let instance = Instance::new(&lab::agent::instance_name()).context("a name")?;
    let parent = cgroup::Parent::create(&instance)?;
    let measured = lab.host().enter(|| measure(&instance, &parent));
    remove_pins(&instance)?;
    parent.remove()?;
    measured?
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
    let policy = policy::compile("bench.toml", &text)
        .map_err(|error| anyhow::anyhow!("the policy does not compile: {error}"))?;
    Ok(Arc::new(policy))
}
