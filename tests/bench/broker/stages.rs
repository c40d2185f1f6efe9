//! Where a call's time in the broker goes, by the broker's own histogram of its stages.

use std::collections::BTreeMap;

use anyhow::Result;
use lab::{
    agent::METRICS,
    metrics::{self, Sample},
    netns::Netns,
};

use crate::row::Row;

const METRIC: &str = "stockade_call_stage_duration_seconds_";

/// Of each stage: seconds over all calls, and how many calls passed it.
pub(super) type Stages = BTreeMap<String, (f64, f64)>;

/// What the agent has counted so far.
pub(super) fn read(host: &Netns) -> Result<Stages> {
    let page = metrics::get(host, METRICS, "/metrics")?;
    let mut stages = Stages::new();
    for Sample {
        name,
        labels,
        value,
    } in metrics::parse(&page)
    {
        let Some(what) = name.strip_prefix(METRIC) else {
            continue;
        };
        let stage = labels.trim_start_matches("stage=").trim_matches('"');
        match what {
            "sum" => stages.entry(stage.to_owned()).or_default().0 = value,
            "count" => stages.entry(stage.to_owned()).or_default().1 = value,
            _ => {}
        }
    }
    Ok(stages)
}

/// Adds what was counted between two looks.
pub(super) fn add(to: &mut Stages, before: &Stages, after: &Stages) {
    for (stage, (seconds, calls)) in after {
        let (seconds_before, calls_before) = before.get(stage).copied().unwrap_or_default();
        let entry = to.entry(stage.clone()).or_default();
        entry.0 += seconds - seconds_before;
        entry.1 += calls - calls_before;
    }
}

/// The mean time of each stage.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of calls is whole and small"
)]
pub(super) fn rows(subject: &'static str, stages: &Stages) -> Vec<Row> {
    let passed = stages.iter().filter(|(_, (_, calls))| *calls > 0.0);
    passed
        .map(|(stage, (seconds, calls))| {
            let mut mean = [seconds / calls * 1e6];
            let metric = format!("stage_{stage}_mean");
            Row {
                n: *calls as u64,
                ..Row::new("broker", subject, metric, "µs", &mut mean)
            }
        })
        .collect()
}
