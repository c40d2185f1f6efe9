//! Every metric, in one table: name, help and labels. Names end in their base unit; every label has
//! a bounded set of values.
//!
//! Verdicts, losses and map fill are counted by the kernel side and read at the moment of a scrape,
//! so they are exact, whatever the event ring lost and however often the agent was restarted.

use std::{fs, time::Duration};

use common::{
    decide::Mode,
    event::Hook,
    verdict::{Outcome, Reason},
};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, proto::MetricFamily,
};

use super::event::protocol_label;

/// One row of the table.
struct Row {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

macro_rules! table {
    ($($row:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $row: Row = Row { name: $name, help: $help, labels: &[$($label),*] };)*
        #[cfg(test)]
        const TABLE: &[&Row] = &[$(&$row),*];
    };
}

table! {
    BUILD_INFO = "stockade_build_info" ["version"]
        "Version of the agent; always 1.";
    START_TIME = "process_start_time_seconds" []
        "Start of the agent, seconds since the epoch.";
    RESIDENT = "process_resident_memory_bytes" []
        "Resident memory of the agent.";
    DESCRIPTORS = "process_open_fds" []
        "Descriptors that the agent has open.";
    VERDICTS = "stockade_verdicts_total" ["tool", "outcome", "reason", "protocol", "hook"]
        "Decisions of the kernel side, counted where they are made.";
    EVENTS_LOST = "stockade_events_lost_total" []
        "Events that found the ring full; the decisions themselves are in stockade_verdicts_total.";
    EVENTS_SUPPRESSED = "stockade_events_suppressed_total" []
        "Events that the rate limit of their session suppressed.";
    DESTROY_LOST = "stockade_destroy_orders_lost_total" []
        "Orders to destroy a socket that found their ring full; a sweep follows.";
    COUNTERS_FULL = "stockade_counters_full_total" []
        "Decisions that are missing in stockade_verdicts_total because its table was full.";
    STATE_MISSING = "stockade_socket_state_missing_total" []
        "Sockets that got no state for lack of memory, so that each packet is decided anew.";
    MAP_ENTRIES = "stockade_map_entries" ["map"]
        "Entries of a table of the kernel side.";
    MAP_CAPACITY = "stockade_map_capacity" ["map"]
        "Entries that a table of the kernel side can hold; full means refused.";
    SESSIONS = "stockade_sessions" ["tool"]
        "Sessions alive.";
    SESSIONS_MAX = "stockade_sessions_max" []
        "Sessions that may be alive at once.";
    LAUNCHES = "stockade_launches_total" ["tool", "result"]
        "Launches by result: started, refused (no policy, no record, no room) or failed.";
    LAUNCH_SECONDS = "stockade_launch_duration_seconds" []
        "Time from the request until the worker runs.";
    POLICY_GENERATION = "stockade_policy_generation" ["tool"]
        "Generation of the policy in force.";
    POLICY_INFO = "stockade_policy_info" ["tool", "digest", "mode"]
        "Policy in force; always 1.";
    POLICY_RELOADS = "stockade_policy_reload_total" ["result"]
        "Attempts to put the policy folder in force: success or failure.";
    POLICY_RELOAD_OK = "stockade_policy_last_reload_successful" []
        "1 where the folder as it was last read is in force, 0 where an older set is.";
    POLICY_APPLY = "stockade_policy_apply_seconds" ["step"]
        "Time the last policy change took, by step: publish (rules into the tables) and flip.";
}

/// Buckets of the launch duration, seconds.
const LAUNCH_BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
];

/// What the daemon tells at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Sample {
    /// Decisions so far.
    pub verdicts: Vec<VerdictCount>,
    /// Losses so far.
    pub losses: Losses,
    /// Tables of the kernel side.
    pub maps: Vec<Fill>,
    /// Sessions alive, per tool.
    pub sessions: Vec<(String, u64)>,
    /// Sessions that may be alive at once.
    pub sessions_max: u32,
    /// Policies in force.
    pub policies: Vec<PolicyInfo>,
    /// Whether the folder as it was last read is in force.
    pub reload_successful: bool,
    /// How long the last policy change took.
    pub applied: Applied,
}

/// One counter of the kernel side.
#[derive(Clone, Debug)]
pub struct VerdictCount {
    /// The tool, or `unknown`.
    pub tool: String,
    /// What was decided.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Protocol number.
    pub protocol: u16,
    /// Where.
    pub hook: Hook,
    /// How often.
    pub count: u64,
}

/// What the kernel side lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Events that the rate limit suppressed.
    pub events_suppressed: u64,
    /// Orders to destroy that found their ring full.
    pub destroy_lost: u64,
    /// Counter keys that found the table full.
    pub counters_full: u64,
    /// Sockets without state.
    pub state_missing: u64,
}

/// How full a table of the kernel side is.
#[derive(Clone, Debug)]
pub struct Fill {
    /// Its name.
    pub map: String,
    /// Entries.
    pub entries: u64,
    /// Entries that it can hold.
    pub capacity: u64,
}

/// A policy in force.
#[derive(Clone, Debug)]
pub struct PolicyInfo {
    /// Its tool.
    pub tool: String,
    /// Its digest, hexadecimal.
    pub digest: String,
    /// Its mode.
    pub mode: Mode,
    /// Its generation.
    pub generation: u32,
}

/// How long the last policy change took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Rules into the tables.
    pub publish: Duration,
    /// New generations in force.
    pub flip: Duration,
}

/// How a launch went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Launch {
    /// The worker runs.
    Started,
    /// No launch was tried.
    Refused,
    /// The launch was tried and came to nothing.
    Failed,
}

/// What the agent counts itself.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    launches: IntCounterVec,
    launch_seconds: Histogram,
    reloads: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            launches: IntCounterVec::new(LAUNCHES.opts(), LAUNCHES.labels)?,
            launch_seconds: Histogram::with_opts(
                HistogramOpts::new(LAUNCH_SECONDS.name, LAUNCH_SECONDS.help)
                    .buckets(LAUNCH_BUCKETS.to_vec()),
            )?,
            reloads: IntCounterVec::new(POLICY_RELOADS.opts(), POLICY_RELOADS.labels)?,
        };
        let collectors: [Box<dyn Collector>; 3] = [
            Box::new(metrics.launches.clone()),
            Box::new(metrics.launch_seconds.clone()),
            Box::new(metrics.reloads.clone()),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        for result in ["success", "failure"] {
            metrics.reloads.with_label_values(&[result]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts a launch. `tool` is the name of a policy, or empty where none was named rightly.
    pub fn launch(&self, tool: &str, result: Launch) {
        let result = match result {
            Launch::Started => "started",
            Launch::Refused => "refused",
            Launch::Failed => "failed",
        };
        self.launches.with_label_values(&[tool, result]).inc();
    }

    /// Notes how long a launch took.
    pub fn launched_within(&self, duration: Duration) {
        self.launch_seconds.observe(duration.as_secs_f64());
    }

    /// Counts an attempt to put the policy folder in force.
    pub fn reload(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.reloads.with_label_values(&[result]).inc();
    }

    /// The page that Prometheus reads: text format 0.0.4.
    pub fn render(&self, sample: &Sample) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(sampled(sample)?);
        families.extend(process()?);
        families.retain(|family| !family.get_metric().is_empty());
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        Ok(page)
    }
}

impl Row {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn counter<'a>(
        &self,
        values: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
    ) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let counter = IntCounterVec::new(self.opts(), self.labels)?;
        for (labels, value) in values {
            counter.get_metric_with_label_values(&labels)?.inc_by(value);
        }
        Ok(counter.collect())
    }

    fn gauge<'a>(
        &self,
        values: impl IntoIterator<Item = (Vec<&'a str>, u64)>,
    ) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let gauge = IntGaugeVec::new(self.opts(), self.labels)?;
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.get_metric_with_label_values(&labels)?.set(value);
        }
        Ok(gauge.collect())
    }

    fn seconds<'a>(
        &self,
        values: impl IntoIterator<Item = (Vec<&'a str>, Duration)>,
    ) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let gauge = prometheus::GaugeVec::new(self.opts(), self.labels)?;
        for (labels, value) in values {
            gauge
                .get_metric_with_label_values(&labels)?
                .set(value.as_secs_f64());
        }
        Ok(gauge.collect())
    }
}

fn sampled(sample: &Sample) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let Sample {
        verdicts,
        losses,
        maps,
        sessions,
        sessions_max,
        policies,
        reload_successful,
        applied,
    } = sample;
    let alone = |value| [(Vec::new(), value)];
    let families = [
        VERDICTS.counter(verdicts.iter().map(|v| (verdict_labels(v), v.count)))?,
        EVENTS_LOST.counter(alone(losses.events_lost))?,
        EVENTS_SUPPRESSED.counter(alone(losses.events_suppressed))?,
        DESTROY_LOST.counter(alone(losses.destroy_lost))?,
        COUNTERS_FULL.counter(alone(losses.counters_full))?,
        STATE_MISSING.counter(alone(losses.state_missing))?,
        MAP_ENTRIES.gauge(maps.iter().map(|m| (vec![m.map.as_str()], m.entries)))?,
        MAP_CAPACITY.gauge(maps.iter().map(|m| (vec![m.map.as_str()], m.capacity)))?,
        SESSIONS.gauge(sessions.iter().map(|(tool, n)| (vec![tool.as_str()], *n)))?,
        SESSIONS_MAX.gauge(alone(u64::from(*sessions_max)))?,
        POLICY_GENERATION.gauge(
            policies
                .iter()
                .map(|p| (vec![p.tool.as_str()], u64::from(p.generation))),
        )?,
        POLICY_INFO.gauge(policies.iter().map(|p| (policy_labels(p), 1)))?,
        POLICY_RELOAD_OK.gauge(alone(u64::from(*reload_successful)))?,
        POLICY_APPLY.seconds([
            (vec!["publish"], applied.publish),
            (vec!["flip"], applied.flip),
        ])?,
    ];
    Ok(families.into_iter().flatten().collect())
}

fn verdict_labels(verdict: &VerdictCount) -> Vec<&str> {
    vec![
        &verdict.tool,
        verdict.outcome.label(),
        verdict.reason.label(),
        protocol_label(verdict.protocol),
        verdict.hook.label(),
    ]
}

fn policy_labels(policy: &PolicyInfo) -> Vec<&str> {
    let mode = match policy.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    };
    vec![&policy.tool, &policy.digest, mode]
}

/// What `/proc` tells of this process. A value that can not be read is left out.
fn process() -> Result<Vec<MetricFamily>, prometheus::Error> {
    let mut families = BUILD_INFO.gauge([(vec![env!("CARGO_PKG_VERSION")], 1)])?;
    if let Some(bytes) = resident_bytes() {
        families.extend(RESIDENT.gauge([(Vec::new(), bytes)])?);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        families.extend(DESCRIPTORS.gauge([(Vec::new(), descriptors.count() as u64)])?);
    }
    if let Some(started) = started() {
        families.extend(START_TIME.seconds([(Vec::new(), started)])?);
    }
    Ok(families)
}

/// Resident memory of this process (`proc_pid_status(5)`, `VmRSS`, in KiB).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Start of this process since the epoch: the boot time (`/proc/stat`, `btime`) and field 22 of
/// `/proc/self/stat`, in hundredths of a second (`USER_HZ` is 100 on every architecture we build
/// for).
fn started() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    Duration::from_secs(boot.trim().parse().ok()?)
        .checked_add(Duration::from_millis(ticks.checked_mul(10)?))
}

#[cfg(test)]
mod tests;
