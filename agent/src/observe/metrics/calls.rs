//! What the broker counts: calls, how long each stage of them takes, workers.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, core::Collector,
};

use super::{CALL_STAGE_SECONDS, CALL_WORKERS, CALLS, CALLS_RUNNING, tools::Tools};

/// Buckets of the time of a stage, seconds: from a look at a table to a worker's patience.
const STAGE_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0,
    5.0, 30.0,
];

/// A stage of a call.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Token and proof.
    Authenticate,
    /// Tool, verb, arguments.
    Validate,
    /// Limits, idempotency.
    Admit,
    /// What the policy wants decided.
    Approve,
    /// The intent in the journal.
    Record,
    /// A worker.
    Start,
    /// To the worker and back.
    Run,
    /// The outcome in the journal.
    Release,
}

impl Stage {
    /// In the order of their discriminants.
    const ALL: [Self; 8] = [
        Self::Authenticate,
        Self::Validate,
        Self::Admit,
        Self::Approve,
        Self::Record,
        Self::Start,
        Self::Run,
        Self::Release,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Validate => "validate",
            Self::Admit => "admit",
            Self::Approve => "approve",
            Self::Record => "record",
            Self::Start => "start",
            Self::Run => "run",
            Self::Release => "release",
        }
    }
}

/// What the broker counts.
#[derive(Debug)]
pub struct Calls {
    ended: IntCounterVec,
    stages: HistogramVec,
    /// Each stage's, looked up once.
    stage: [Histogram; Stage::ALL.len()],
    workers: IntCounterVec,
    running: IntGauge,
    tools: Arc<Tools>,
}

impl Calls {
    pub(super) fn new(tools: Arc<Tools>) -> Result<Self, prometheus::Error> {
        let stages = HistogramOpts::new(CALL_STAGE_SECONDS.name, CALL_STAGE_SECONDS.help);
        let stages = stages.buckets(STAGE_BUCKETS.to_vec());
        let stages = HistogramVec::new(stages, CALL_STAGE_SECONDS.labels)?;
        Ok(Self {
            ended: IntCounterVec::new(CALLS.opts(), CALLS.labels)?,
            stage: Stage::ALL.map(|stage| stages.with_label_values(&[stage.label()])),
            stages,
            workers: IntCounterVec::new(CALL_WORKERS.opts(), CALL_WORKERS.labels)?,
            running: IntGauge::with_opts(CALLS_RUNNING.opts())?,
            tools,
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 4] {
        [
            Box::new(self.ended.clone()),
            Box::new(self.stages.clone()),
            Box::new(self.workers.clone()),
            Box::new(self.running.clone()),
        ]
    }

    /// Counts a call that is over. `tool` and `verb` are names of a policy or `unknown`; `outcome` is
    /// `done`, `tool_error`, `replayed` or the code of a reason.
    pub fn call(&self, tool: &str, verb: &str, outcome: &str) {
        self.calls(tool, verb, outcome, 1);
    }

    /// Counts several that ended alike.
    pub fn calls(&self, tool: &str, verb: &str, outcome: &str, count: u64) {
        let (tool, verb) = self.tools.verb(tool, verb);
        let counter = self.ended.with_label_values(&[tool, verb, outcome]);
        counter.inc_by(count);
    }

    /// Notes how long a stage of a call took.
    pub fn stage(&self, stage: Stage, took: Duration) {
        if let Some(stage) = self.stage.get(stage as usize) {
            stage.observe(took.as_secs_f64());
        }
    }

    /// Counts a worker that takes a call: one that was warm, or one that is started. `tool` is the name
    /// of a policy.
    pub fn worker(&self, tool: &str, warm: bool) {
        let start = if warm { "warm" } else { "cold" };
        let tool = self.tools.tool(tool);
        self.workers.with_label_values(&[tool, start]).inc();
    }

    /// A call runs as long as the value is held.
    #[must_use]
    pub fn runs(&self) -> Runs {
        self.running.inc();
        Runs(self.running.clone())
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.running.get().try_into().unwrap_or(0)
    }
}

/// A call that runs.
#[derive(Debug)]
pub struct Runs(IntGauge);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.dec();
    }
}
