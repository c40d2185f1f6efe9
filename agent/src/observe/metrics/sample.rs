//! What the daemon tells at the moment of a scrape, and the families of the page that come of it.

use std::time::Duration;

use common::{
    decide::Mode,
    event::Hook,
    verdict::{Outcome, Reason},
};
use prometheus::proto::MetricFamily;

use super::{
    ATTACHMENTS, ATTACHMENTS_WEAK, AUDIT_LAG, AUDIT_OPEN, AUDIT_RECORDS, AUDIT_UP, BROKER_ENTRIES,
    CHECKPOINT_LAG, CHECKPOINTS, COUNTERS_FULL, DESTROY_LOST, DNS_CACHE_BYTES, DNS_CACHE_ENTRIES,
    DNS_CACHE_HITS, DNS_EVENTS_SUPPRESSED, DNS_REPLIES_LOST, DNS_UNKNOWN, DNS_UP, DNS_UPSTREAM,
    DNS_UPSTREAM_FAILURES, DNS_WAITING, EVENTS_LOST, EVENTS_SUPPRESSED, GRANTS, GRANTS_REFUSED,
    HOOKS, ISSUER_AGE, ISSUER_FETCHES, ISSUER_KEYS, LOG_SUPPRESSED, MAP_CAPACITY, MAP_ENTRIES,
    OBSERVED, OTHER, POLICY_APPLY, POLICY_GENERATION, POLICY_INFO, POLICY_KEPT, POLICY_LAST_GOOD,
    POLICY_RELOAD_OK, POLICY_SELF_TEST, PlaceNumbers, SESSIONS, SESSIONS_MAX, STATE_MISSING,
    TOOLS_OFF, Tools, VERDICTS, WARM_WORKERS, places,
};
use crate::observe::event::protocol_label;

/// What the daemon tells at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Sample {
    /// Decisions so far.
    pub verdicts: Vec<VerdictCount>,
    /// Losses so far.
    pub losses: Losses,
    /// Hooks that ought to be on the workers' cgroup, and whether each is.
    pub hooks: Vec<(&'static str, bool)>,
    /// Tables of the kernel side.
    pub maps: Vec<Fill>,
    /// Sessions alive, per tool.
    pub sessions: Vec<(String, u64)>,
    /// Sessions that may be alive at once.
    pub sessions_max: u32,
    /// Places that wait for sessions.
    pub places: PlaceNumbers,
    /// Attachments: tool, state, and whether it is weak.
    pub attachments: Vec<(String, String, bool)>,
    /// Policies in force.
    pub policies: Vec<PolicyInfo>,
    /// Whether the folder as it was last read is in force.
    pub reload_successful: bool,
    /// Whether the last good set stands in for a folder that was bad at the start.
    pub policies_last_good: bool,
    /// Whether the set in force is kept on the disk.
    pub policies_kept: bool,
    /// How long the last policy change took.
    pub applied: Applied,
    /// The resolver and what it granted.
    pub names: NameNumbers,
    /// The broker, where there is one.
    pub broker: Option<BrokerNumbers>,
    /// The journal.
    pub audit: AuditNumbers,
    /// Places that keep the journal's checkpoints.
    pub checkpoints: Vec<CheckpointNumbers>,
    /// Log lines that were not written.
    pub log_suppressed: u64,
}

/// The broker. Calls are counted by tool where they end ([`super::Calls`]).
#[derive(Clone, Debug, Default)]
pub struct BrokerNumbers {
    /// Workers that wait for a call.
    pub warm: u64,
    /// Tools that are off.
    pub off: u64,
    /// Entries of each store.
    pub entries: Vec<(&'static str, u64)>,
    /// The token issuers, as the configuration names them.
    pub issuers: Vec<IssuerNumbers>,
}

/// A token issuer.
#[derive(Clone, Debug, Default)]
pub struct IssuerNumbers {
    /// Its name.
    pub issuer: String,
    /// Keys that are believed.
    pub keys: u64,
    /// Their age.
    pub age: Option<Duration>,
    /// Fetches by outcome.
    pub fetches: Vec<(&'static str, u64)>,
}

/// How the journal does.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditNumbers {
    /// Whether records are written, synced and signed.
    pub up: bool,
    /// Number of the last record.
    pub records: u64,
    /// Age of the oldest record that is not on the disk.
    pub lag: Duration,
    /// What has begun and not ended.
    pub open: u64,
}

/// A place beside the journal that keeps its checkpoints.
#[derive(Clone, Debug, Default)]
pub struct CheckpointNumbers {
    /// Its kind and its number in the configuration.
    pub place: String,
    /// For how long it has lacked one that was due.
    pub lag: Duration,
    /// Checkpoints by outcome.
    pub sent: Vec<(&'static str, u64)>,
}

/// The resolver and what it granted. Queries are counted by tool where they are answered
/// ([`super::Metrics::query`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct NameNumbers {
    /// Whether it answers.
    pub up: bool,
    /// Queries of nobody that is known.
    pub unknown: u64,
    /// Queries that were answered from the cache.
    pub cache_hits: u64,
    /// Answers in the cache.
    pub cache_entries: u64,
    /// Bytes of the cache.
    pub cache_bytes: u64,
    /// Questions that were asked upstream.
    pub upstream: u64,
    /// Questions that upstream did not answer.
    pub upstream_failures: u64,
    /// Queries that wait.
    pub waiting: u64,
    /// Events that were not sent.
    pub events_suppressed: u64,
    /// Replies that were lost.
    pub replies_lost: u64,
    /// Addresses that are open by grants.
    pub grants: u64,
    /// Grants for which there was no room.
    pub grants_refused: u64,
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
    /// Whether the self-test of its fence passed; none before it.
    pub self_test: Option<bool>,
}

/// How long the last policy change took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Rules into the tables.
    pub publish: Duration,
    /// New generations in force.
    pub flip: Duration,
}

/// The families of a sample.
pub(super) fn families(
    sample: &Sample,
    tools: &Tools,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let Sample {
        verdicts,
        losses,
        hooks,
        maps,
        sessions,
        sessions_max,
        places,
        attachments,
        policies,
        reload_successful,
        policies_last_good,
        policies_kept,
        applied,
        names,
        broker,
        audit,
        checkpoints,
        log_suppressed,
    } = sample;
    // First, so that the tools in force have the labels.
    let _labels: Vec<_> = policies.iter().map(|p| tools.tool(&p.tool)).collect();
    let own = || policies.iter().filter(|p| tools.is_known(&p.tool));
    let observed = policies.iter().filter(|p| p.mode == Mode::Observe);
    let alone = |value| [(Vec::new(), value)];
    let families = [
        VERDICTS.counter(verdicts.iter().map(|v| (verdict_labels(v, tools), v.count)))?,
        EVENTS_LOST.counter(alone(losses.events_lost))?,
        EVENTS_SUPPRESSED.counter(alone(losses.events_suppressed))?,
        DESTROY_LOST.counter(alone(losses.destroy_lost))?,
        COUNTERS_FULL.counter(alone(losses.counters_full))?,
        STATE_MISSING.counter(alone(losses.state_missing))?,
        HOOKS.gauge(hooks.iter().map(|(hook, on)| (vec![*hook], u64::from(*on))))?,
        MAP_ENTRIES.gauge(maps.iter().map(|m| (vec![m.map.as_str()], m.entries)))?,
        MAP_CAPACITY.gauge(maps.iter().map(|m| (vec![m.map.as_str()], m.capacity)))?,
        SESSIONS.gauge(
            sessions
                .iter()
                .map(|(tool, n)| (vec![tools.tool(tool)], *n)),
        )?,
        SESSIONS_MAX.gauge(alone(u64::from(*sessions_max)))?,
        POLICY_GENERATION.gauge(own().map(|p| (vec![p.tool.as_str()], p.generation.into())))?,
        POLICY_SELF_TEST.gauge(self_tests(policies, tools))?,
        POLICY_INFO.gauge(own().map(|p| (policy_labels(p), 1)))?,
        POLICY_RELOAD_OK.gauge(alone(u64::from(*reload_successful)))?,
        POLICY_LAST_GOOD.gauge(alone(u64::from(*policies_last_good)))?,
        POLICY_KEPT.gauge(alone(u64::from(*policies_kept)))?,
        POLICY_APPLY.seconds([
            (vec!["publish"], applied.publish),
            (vec!["flip"], applied.flip),
        ])?,
        OBSERVED.gauge(alone(observed.count() as u64))?,
        AUDIT_UP.gauge(alone(u64::from(audit.up)))?,
        AUDIT_RECORDS.counter(alone(audit.records))?,
        AUDIT_LAG.seconds([(Vec::new(), audit.lag)])?,
        AUDIT_OPEN.gauge(alone(audit.open))?,
        CHECKPOINT_LAG.seconds(checkpoints.iter().map(|c| (vec![c.place.as_str()], c.lag)))?,
        CHECKPOINTS.counter(checkpoints.iter().flat_map(|c| {
            let sent = c.sent.iter();
            sent.map(|(outcome, n)| (vec![c.place.as_str(), *outcome], *n))
        }))?,
        LOG_SUPPRESSED.counter(alone(*log_suppressed))?,
    ];
    let families = families.into_iter().flatten();
    let mut families: Vec<_> = families.chain(name_families(names)?).collect();
    families.extend(places::families(places, tools)?);
    families.extend(attachment_families(attachments, tools)?);
    if let Some(broker) = broker {
        families.extend(broker_families(broker)?);
    }
    Ok(families)
}

fn attachment_families(
    attachments: &[(String, String, bool)],
    tools: &Tools,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let all = attachments.iter();
    let weak = all.clone().filter(|(_, _, weak)| *weak);
    let families = [
        ATTACHMENTS
            .gauge(all.map(|(tool, state, _)| (vec![tools.tool(tool), state.as_str()], 1)))?,
        ATTACHMENTS_WEAK.gauge(weak.map(|(tool, _, _)| (vec![tools.tool(tool)], 1)))?,
    ];
    Ok(families.into_iter().flatten().collect())
}

fn broker_families(broker: &BrokerNumbers) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let BrokerNumbers {
        warm,
        off,
        entries,
        issuers,
    } = broker;
    let alone = |value| [(Vec::new(), value)];
    let families = [
        WARM_WORKERS.gauge(alone(*warm))?,
        TOOLS_OFF.gauge(alone(*off))?,
        BROKER_ENTRIES.gauge(entries.iter().map(|(store, n)| (vec![*store], *n)))?,
        ISSUER_KEYS.gauge(
            issuers
                .iter()
                .map(|one| (vec![one.issuer.as_str()], one.keys)),
        )?,
        ISSUER_AGE.seconds(
            issuers
                .iter()
                .filter_map(|one| Some((vec![one.issuer.as_str()], one.age?))),
        )?,
        ISSUER_FETCHES.counter(issuers.iter().flat_map(|one| {
            let fetches = one.fetches.iter();
            fetches.map(|(outcome, n)| (vec![one.issuer.as_str(), *outcome], *n))
        }))?,
    ];
    Ok(families.into_iter().flatten().collect())
}

fn name_families(names: &NameNumbers) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let NameNumbers {
        up,
        unknown,
        cache_hits,
        cache_entries,
        cache_bytes,
        upstream,
        upstream_failures,
        waiting,
        events_suppressed,
        replies_lost,
        grants,
        grants_refused,
    } = *names;
    let alone = |value| [(Vec::new(), value)];
    let families = [
        DNS_UP.gauge(alone(u64::from(up)))?,
        DNS_UNKNOWN.counter(alone(unknown))?,
        DNS_CACHE_HITS.counter(alone(cache_hits))?,
        DNS_CACHE_ENTRIES.gauge(alone(cache_entries))?,
        DNS_CACHE_BYTES.gauge(alone(cache_bytes))?,
        DNS_UPSTREAM.counter(alone(upstream))?,
        DNS_UPSTREAM_FAILURES.counter(alone(upstream_failures))?,
        DNS_WAITING.gauge(alone(waiting))?,
        DNS_EVENTS_SUPPRESSED.counter(alone(events_suppressed))?,
        DNS_REPLIES_LOST.counter(alone(replies_lost))?,
        GRANTS.gauge(alone(grants))?,
        GRANTS_REFUSED.counter(alone(grants_refused))?,
    ];
    Ok(families.into_iter().flatten().collect())
}

/// Each tool with a label of its own; of the others the worst.
fn self_tests<'p>(policies: &'p [PolicyInfo], tools: &Tools) -> Vec<(Vec<&'p str>, u64)> {
    let tested = policies.iter().filter_map(|p| Some((p, p.self_test?)));
    let (own, others): (Vec<_>, Vec<_>) = tested.partition(|(p, _)| tools.is_known(&p.tool));
    let worst = others.iter().map(|(_, passed)| u64::from(*passed)).min();
    let own = own
        .into_iter()
        .map(|(p, passed)| (vec![p.tool.as_str()], u64::from(passed)));
    own.chain(worst.map(|worst| (vec![OTHER], worst))).collect()
}

fn verdict_labels<'v>(verdict: &'v VerdictCount, tools: &Tools) -> Vec<&'v str> {
    vec![
        tools.tool(&verdict.tool),
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
