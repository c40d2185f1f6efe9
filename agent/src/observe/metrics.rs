//! Every metric, in one table: name, help and labels. Names end in their base unit; every label has
//! a bounded set of values.
//!
//! Verdicts, losses and map fill are counted by the kernel side and read at the moment of a scrape,
//! so they are exact, whatever the event ring lost and however often the agent was restarted.

mod calls;
mod places;
mod process;
mod sample;
mod tools;

use std::{sync::Arc, time::Duration};

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, proto::MetricFamily,
};

pub use calls::{Calls, Runs, Stage};
pub use places::PlaceNumbers;
pub use process::resident_bytes;
pub use sample::{
    Applied, AuditNumbers, BrokerNumbers, CheckpointNumbers, Fill, IssuerNumbers, Losses,
    NameNumbers, PolicyInfo, Sample, VerdictCount,
};
use tools::OTHER;
use tools::Tools;

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
    HOOKS = "stockade_hook_attached" ["hook"]
        "1 while a hook is on the workers' cgroup, 0 where somebody took it off; nothing is launched then.";
    MAP_ENTRIES = "stockade_map_entries" ["map"]
        "Entries of a table of the kernel side.";
    MAP_CAPACITY = "stockade_map_capacity" ["map"]
        "Entries that a table of the kernel side can hold; full means refused.";
    SESSIONS = "stockade_sessions" ["tool"]
        "Sessions alive.";
    SESSIONS_MAX = "stockade_sessions_max" []
        "Sessions that may be alive at once.";
    ATTACHMENTS = "stockade_attachments" ["tool", "state"]
        "What is attached by state: fenced, closed (it makes no sockets, or its policy is gone), open (hooks of it were taken off), refused or absent (it has no cgroup now).";
    ATTACHMENTS_WEAK = "stockade_attachments_weak" ["tool"]
        "Attachments whose processes may keep capabilities and sockets that no fence holds.";
    ATTACH_REFUSED = "stockade_attach_refused_total" ["reason"]
        "Cgroups and units that were not attached, or whose fence was closed.";
    LAUNCHES = "stockade_launches_total" ["tool", "result"]
        "Launches by result: started, refused (no policy, no record, no room) or failed.";
    LAUNCH_SECONDS = "stockade_launch_duration_seconds" []
        "Time from the request until the worker runs.";
    PLACES = "stockade_places" ["tool"]
        "Places that were made ahead and wait for a session.";
    PLACES_MAX = "stockade_places_max" []
        "Places that may wait at once; 0 where none are made ahead.";
    PLACES_MADE = "stockade_places_made_total" ["result"]
        "Attempts to make a place ahead: success or failure.";
    PLACES_GONE = "stockade_places_gone_total" ["why"]
        "Places that wait no more: used by a session, idle (nobody has needed it), withdrawn (its policy went, or the agent ends), old_root (its policy's root is made anew), ended (its process 1 was killed).";
    PLACES_MISSED = "stockade_places_missed_total" []
        "Launches that found no place waiting, so that one was made for them.";
    POLICY_GENERATION = "stockade_policy_generation" ["tool"]
        "Generation of the policy in force.";
    POLICY_INFO = "stockade_policy_info" ["tool", "digest", "mode"]
        "Policy in force; always 1.";
    POLICY_SELF_TEST = "stockade_policy_self_test_passed" ["tool"]
        "1 where the self-test of the policy's fence passed, 0 where something slipped through and nothing is launched; absent before the first launch.";
    POLICY_RELOADS = "stockade_policy_reload_total" ["result"]
        "Attempts to put the policy folder in force: success or failure.";
    POLICY_RELOAD_OK = "stockade_policy_last_reload_successful" []
        "1 where the folder as it was last read is in force, 0 where an older set is.";
    POLICY_CHANGES = "stockade_policy_changes_total" ["origin", "result"]
        "Changes asked for over the control socket by origin (push, remove, rollback) and result: success or failure.";
    POLICY_LAST_GOOD = "stockade_policy_last_good" []
        "1 while the last good set of an earlier agent is in force because the folder was bad at the start.";
    POLICY_KEPT = "stockade_policy_set_kept" []
        "1 where the set in force is kept on the disk, 0 where a restart with a bad folder would not have it.";
    POLICY_APPLY = "stockade_policy_apply_seconds" ["step"]
        "Time the last policy change took, by step: publish (rules into the tables) and flip.";
    OBSERVED = "stockade_observed_tools" []
        "Tools in observe mode: they may ask for any name, so DNS is a way out for them.";
    DNS_UP = "stockade_dns_up" []
        "1 while the resolver answers, 0 while names do not resolve.";
    DNS_QUERIES = "stockade_dns_queries_total" ["tool", "result"]
        "Queries of workers by result: answered, nothing, refused, limited, malformed, private, grants_full, failed.";
    DNS_SECONDS = "stockade_dns_query_duration_seconds" []
        "Time from a query to its reply.";
    DNS_UNKNOWN = "stockade_dns_unknown_clients_total" []
        "Queries from senders that are no worker.";
    DNS_CACHE_HITS = "stockade_dns_cache_hits_total" []
        "Queries that were answered from the cache.";
    DNS_CACHE_ENTRIES = "stockade_dns_cache_entries" []
        "Answers in the cache.";
    DNS_CACHE_BYTES = "stockade_dns_cache_bytes" []
        "Size of the cache, about.";
    DNS_UPSTREAM = "stockade_dns_upstream_queries_total" []
        "Questions that were asked upstream.";
    DNS_UPSTREAM_FAILURES = "stockade_dns_upstream_failures_total" []
        "Questions that upstream did not answer.";
    DNS_WAITING = "stockade_dns_waiting_queries" []
        "Queries that wait for upstream.";
    DNS_EVENTS_SUPPRESSED = "stockade_dns_events_suppressed_total" []
        "Refused queries of which no event tells because their session had too many.";
    DNS_REPLIES_LOST = "stockade_dns_replies_lost_total" []
        "Replies that the resolver's socket did not take, or whose source was another session's by then.";
    GRANTS = "stockade_grants" []
        "Addresses that names have opened, of all sessions.";
    GRANTS_REFUSED = "stockade_grants_refused_total" []
        "Grants for which there was no room.";
    CALLS = "stockade_calls_total" ["tool", "verb", "outcome"]
        "Calls by outcome: done, tool_error, replayed, or the code of the reason why not; tool and verb are unknown where the token does not cover them.";
    CALL_STAGE_SECONDS = "stockade_call_stage_duration_seconds" ["stage"]
        "Time of each stage of a call: authenticate, validate, admit, approve, record, start, run, release.";
    CALLS_RUNNING = "stockade_calls_running" []
        "Calls that are being carried out.";
    CALL_WORKERS = "stockade_call_workers_total" ["tool", "start"]
        "Workers that took a call, by whether they were warm or started for it (cold).";
    WARM_WORKERS = "stockade_warm_workers" []
        "Workers that wait for the next call of their principal.";
    TOOLS_OFF = "stockade_tools_off" []
        "Tools that the kill switch holds off.";
    BROKER_ENTRIES = "stockade_broker_entries" ["store"]
        "Entries of a store of the broker; full means refused.";
    ISSUER_KEYS = "stockade_issuer_keys" ["issuer"]
        "Keys of a token issuer that are believed; 0 means that no token of it is good.";
    ISSUER_AGE = "stockade_issuer_keys_age_seconds" ["issuer"]
        "Age of an issuer's keys as they were last read or fetched; absent where they never were, and for the agent's own.";
    ISSUER_FETCHES = "stockade_issuer_fetches_total" ["issuer", "outcome"]
        "Fetches of an issuer's keys by outcome: success, unreachable, slow, status, refused.";
    AUDIT_UP = "stockade_audit_up" []
        "1 while records are written, synced and signed, 0 while that fails; launches and calls are refused then.";
    AUDIT_RECORDS = "stockade_audit_records_total" []
        "Records of the journal, over all restarts.";
    AUDIT_LAG = "stockade_audit_lag_seconds" []
        "Age of the oldest record that is not on the disk.";
    AUDIT_OPEN = "stockade_audit_open" []
        "Sessions and calls whose beginning is recorded and whose end is not.";
    CHECKPOINT_LAG = "stockade_checkpoint_lag_seconds" ["place"]
        "For how long a place beside the journal has lacked a checkpoint that was due.";
    CHECKPOINTS = "stockade_checkpoints_total" ["place", "outcome"]
        "Checkpoints for places beside the journal by outcome: kept or failed; what failed is tried again.";
    NEW_DESTINATIONS = "stockade_new_destinations_total" ["tool"]
        "Names, addresses and rules that workers of a tool used for the first time since the agent started.";
    LOG_SUPPRESSED = "stockade_log_lines_suppressed_total" []
        "Log lines that the limit of their source suppressed.";
}

/// Buckets of the launch duration, seconds.
const LAUNCH_BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
];

/// Buckets of the time of a query, seconds: from the cache, from near by, from far away, and the
/// patience of clients.
const QUERY_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    1.0, 2.5, 5.0,
];

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
    changes: IntCounterVec,
    queries: IntCounterVec,
    query_seconds: Histogram,
    new_destinations: IntCounterVec,
    attach_refused: IntCounterVec,
    calls: Arc<Calls>,
    tools: Arc<Tools>,
}

impl Metrics {
    /// All at zero. `tools_max`: how many tools have labels of their own; the others are `other`.
    pub fn new(tools_max: usize) -> Result<Self, prometheus::Error> {
        let tools = Arc::new(Tools::new(tools_max));
        let metrics = Self {
            registry: Registry::new(),
            launches: IntCounterVec::new(LAUNCHES.opts(), LAUNCHES.labels)?,
            launch_seconds: Histogram::with_opts(
                HistogramOpts::new(LAUNCH_SECONDS.name, LAUNCH_SECONDS.help)
                    .buckets(LAUNCH_BUCKETS.to_vec()),
            )?,
            reloads: IntCounterVec::new(POLICY_RELOADS.opts(), POLICY_RELOADS.labels)?,
            changes: IntCounterVec::new(POLICY_CHANGES.opts(), POLICY_CHANGES.labels)?,
            queries: IntCounterVec::new(DNS_QUERIES.opts(), DNS_QUERIES.labels)?,
            query_seconds: Histogram::with_opts(
                HistogramOpts::new(DNS_SECONDS.name, DNS_SECONDS.help)
                    .buckets(QUERY_BUCKETS.to_vec()),
            )?,
            new_destinations: IntCounterVec::new(NEW_DESTINATIONS.opts(), NEW_DESTINATIONS.labels)?,
            attach_refused: IntCounterVec::new(ATTACH_REFUSED.opts(), ATTACH_REFUSED.labels)?,
            calls: Arc::new(Calls::new(Arc::clone(&tools))?),
            tools,
        };
        let collectors: [Box<dyn Collector>; 8] = [
            Box::new(metrics.launches.clone()),
            Box::new(metrics.launch_seconds.clone()),
            Box::new(metrics.reloads.clone()),
            Box::new(metrics.changes.clone()),
            Box::new(metrics.queries.clone()),
            Box::new(metrics.query_seconds.clone()),
            Box::new(metrics.new_destinations.clone()),
            Box::new(metrics.attach_refused.clone()),
        ];
        for collector in collectors.into_iter().chain(metrics.calls.collectors()) {
            metrics.registry.register(collector)?;
        }
        for result in ["success", "failure"] {
            metrics.reloads.with_label_values(&[result]).inc_by(0);
            for origin in ["push", "remove", "rollback"] {
                metrics
                    .changes
                    .with_label_values(&[origin, result])
                    .inc_by(0);
            }
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
        let tool = self.tools.tool(tool);
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

    /// Counts a change of policies that somebody asked for. `origin` is one of a bounded set.
    pub fn policy_change(&self, origin: &str, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.changes.with_label_values(&[origin, result]).inc();
    }

    /// Counts a query of a worker. `tool` is the name of a policy, `result` one of a bounded set.
    pub fn query(&self, tool: &str, result: &str, duration: Duration) {
        let tool = self.tools.tool(tool);
        self.queries.with_label_values(&[tool, result]).inc();
        self.query_seconds.observe(duration.as_secs_f64());
    }

    /// Counts a destination that workers of a tool had not used before.
    pub fn new_destination(&self, tool: &str) {
        let tool = self.tools.tool(tool);
        self.new_destinations.with_label_values(&[tool]).inc();
    }

    /// Counts something that was not attached. `reason` is one of a bounded set.
    pub fn attach_refused(&self, reason: &str) {
        self.attach_refused.with_label_values(&[reason]).inc();
    }

    /// What the broker counts.
    #[must_use]
    pub fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// The page that Prometheus reads: text format 0.0.4.
    pub fn render(&self, sample: &Sample) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(sample::families(sample, &self.tools)?);
        families.extend(process::families()?);
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
            // Added: those without a label of their own share one.
            gauge.get_metric_with_label_values(&labels)?.add(value);
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

#[cfg(test)]
mod tests;
