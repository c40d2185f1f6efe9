//! What the metrics page, the health page and `status` tell: read at the moment when it is asked for.

use std::sync::Arc;

use common::{
    event::Hook,
    layout::Tally,
    verdict::{Outcome, Reason},
};

use super::{Engine, error::chain};
use crate::{
    broker::Broker,
    kernel,
    observe::{
        http::Pages,
        log,
        metrics::{AuditNumbers, Fill, Losses, PolicyInfo, Sample, VerdictCount},
    },
    sandbox::Slipped,
};

/// Label of decisions that belong to no policy in force.
const UNKNOWN_TOOL: &str = "unknown";
/// Share of a table, in percent, from which on its fill is an ailment.
const FILL_PERCENT_MAX: u64 = 90;

impl Engine {
    /// What the page server serves.
    #[must_use]
    pub fn pages(self: &Arc<Self>) -> Pages {
        let (metrics, ailments) = (Arc::downgrade(self), Arc::downgrade(self));
        // Weak: the page server must not keep an engine alive that is being closed.
        Pages {
            metrics: Box::new(move || {
                let engine = metrics.upgrade().ok_or("the agent is stopping")?;
                let sample = engine.sample().map_err(|error| chain(&error))?;
                engine
                    .metrics
                    .render(&sample)
                    .map_err(|error| chain(&error))
            }),
            ailments: Box::new(move || match ailments.upgrade() {
                Some(engine) => engine.ailments(),
                None => vec!["agent: stopping".to_owned()],
            }),
        }
    }

    /// What is wrong, each in one line; nothing when all is well.
    pub(super) fn ailments(&self) -> Vec<String> {
        let mut ailments = Vec::new();
        if !self.journal.is_whole() {
            ailments.push(
                "journal: can not be written, synced or signed; what needs a record is refused"
                    .to_owned(),
            );
        }
        if let Some(error) = self.policies.last_error() {
            ailments.push(format!("policies: an older set is in force: {error}"));
        }
        if let Some(error) = self.policies.unkept() {
            ailments.push(format!(
                "policies: the set in force is not kept; a restart with a bad folder would not have it: {error}"
            ));
        }
        ailments.extend(self.attachment_ailments());
        if !self.names.numbers().up {
            ailments.push("resolver: does not answer; names do not resolve".to_owned());
        }
        if self.doors.has_ended() {
            ailments.push(
                "broker: its socket is not served; no calls come in, restart the agent".to_owned(),
            );
        }
        if self.broker.get().is_some_and(Broker::store_has_failed) {
            ailments.push(
                "idempotency store: its last write failed; calls with a key are refused until one goes well"
                    .to_owned(),
            );
        }
        for (tool, loaded) in &self.policies.current().by_tool {
            let slipped = self.self_tests.outcome(&loaded.policy.digest);
            if let Some(slipped) = slipped.filter(|slipped| !slipped.is_none()) {
                ailments.push(format!(
                    "policy `{tool}`: its fence did not refuse everything ({slipped}); none of its workers is launched"
                ));
            }
        }
        for hook in self.attached.look().iter().filter(|hook| !hook.stands) {
            ailments.push(format!(
                "hook `{}`: severed from the workers' cgroup; nothing is launched, restart the agent",
                hook.hook
            ));
        }
        match self.kernel.map_fill() {
            Ok(fills) => ailments.extend(fills.iter().filter_map(nearly_full)),
            Err(error) => ailments.push(chain(&error)),
        }
        ailments
    }

    /// What the kernel side lost so far.
    pub(super) fn losses(&self) -> Result<Losses, kernel::Error> {
        let tallies = self.kernel.tallies()?;
        let of = |tally: Tally| tallies.get(tally as usize).copied().unwrap_or(0);
        Ok(Losses {
            events_lost: of(Tally::EventsLost),
            events_suppressed: of(Tally::EventsSuppressed),
            destroy_lost: of(Tally::DestroyLost),
            counters_full: of(Tally::CountersFull),
            state_missing: of(Tally::StateMissing),
        })
    }

    fn sample(&self) -> Result<Sample, kernel::Error> {
        let set = self.policies.current();
        let maps = self.kernel.map_fill()?;
        let mut sessions = self.sessions.by_tool();
        for tool in set.by_tool.keys() {
            sessions.entry(tool.clone()).or_insert(0);
        }
        Ok(Sample {
            verdicts: self.verdicts()?,
            losses: self.losses()?,
            hooks: self
                .attached
                .look()
                .iter()
                .map(|h| (h.hook, h.stands))
                .collect(),
            maps: maps.iter().map(fill).collect(),
            sessions: sessions.into_iter().collect(),
            sessions_max: self.sessions_max,
            places: self.place_numbers(),
            attachments: self
                .attachment_infos()
                .into_iter()
                .map(|info| (info.tool, info.state, info.weak))
                .collect(),
            policies: set
                .by_tool
                .iter()
                .map(|(tool, loaded)| PolicyInfo {
                    tool: tool.clone(),
                    digest: loaded.policy.digest.to_string(),
                    mode: loaded.policy.mode,
                    generation: loaded.generation.0,
                    self_test: self
                        .self_tests
                        .outcome(&loaded.policy.digest)
                        .map(Slipped::is_none),
                })
                .collect(),
            reload_successful: self.policies.last_error().is_none(),
            policies_last_good: self.policies.is_last_good(),
            policies_kept: self.policies.unkept().is_none(),
            applied: set.applied,
            names: self.names.numbers(),
            broker: self.broker_numbers(),
            audit: self.audit_numbers(),
            checkpoints: self.checkpoint_numbers(),
            log_suppressed: log::suppressed(),
        })
    }

    fn audit_numbers(&self) -> AuditNumbers {
        let numbers = self.journal.numbers();
        AuditNumbers {
            up: numbers.whole,
            records: numbers.records,
            lag: numbers.lag,
            open: numbers.open,
        }
    }

    /// The counters of the kernel side with names. Numbers that this agent does not know are left
    /// out: the pins carry the ABI version, so there are none.
    fn verdicts(&self) -> Result<Vec<VerdictCount>, kernel::Error> {
        let set = self.policies.current();
        let counters = self.kernel.counters()?;
        let named = counters.into_iter().filter_map(|(key, count)| {
            Some(VerdictCount {
                tool: set
                    .names
                    .tool(key.policy)
                    .unwrap_or(UNKNOWN_TOOL)
                    .to_owned(),
                outcome: Outcome::from_number(key.outcome)?,
                reason: Reason::from_number(key.reason)?,
                protocol: key.protocol,
                hook: Hook::from_number(key.hook)?,
                count,
            })
        });
        Ok(named.collect())
    }
}

fn fill(map: &kernel::MapFill) -> Fill {
    Fill {
        map: map.name.to_owned(),
        entries: map.entries as u64,
        capacity: u64::from(map.capacity),
    }
}

fn nearly_full(map: &kernel::MapFill) -> Option<String> {
    let Fill {
        map,
        entries,
        capacity,
    } = fill(map);
    let full = entries.saturating_mul(100) >= capacity.saturating_mul(FILL_PERCENT_MAX);
    full.then(|| format!("table `{map}`: {entries} of {capacity} entries; full means refused"))
}
