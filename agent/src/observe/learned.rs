//! What the tools in `observe` mode did that their policies do not allow: names asked, flows that
//! passed all the same, each distinct thing once with how often and when. Bounded, in memory, per
//! session; the oldest sessions of a tool are united.
//!
//! Names and flows are kept apart and joined when somebody asks: a flow may be told before the
//! answer that led to its address.

mod lines;
mod proposal;
mod siblings;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::{
    event::Hook,
    verdict::{Outcome, Reason},
};

pub use proposal::{Proposal, Unseen};

use super::event::Event;
use crate::timestamp::Timestamp;

/// Sessions of one tool that are kept apart.
pub const SESSIONS_PER_TOOL_MAX: usize = 16;
/// Distinct things of one session, and of the united ones.
pub const THINGS_PER_SESSION_MAX: usize = 8_192;
/// Distinct things of all sessions of all tools.
pub const THINGS_MAX: usize = 131_072;
/// Names of one address: more share one only at large hosters.
const NAMES_PER_ADDRESS_MAX: usize = 64;

const _: () = assert!(THINGS_PER_SESSION_MAX <= THINGS_MAX);

/// What all tools in `observe` mode did.
#[derive(Debug, Default)]
pub struct Learned(Mutex<BTreeMap<String, Tool>>);

#[derive(Debug, Default)]
struct Tool {
    sessions: VecDeque<(u64, Record)>,
    earlier: Record,
    earlier_sessions: u64,
}

/// What some sessions did.
#[derive(Clone, Debug, Default)]
pub struct Record {
    flows: BTreeMap<Flow, Uses>,
    names: BTreeMap<String, Asked>,
    /// The names in answers for which an address stood.
    addresses: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Sessions that it tells of.
    sessions: u64,
    /// Events that had no room or never came.
    missing: u64,
}

/// One kind of flow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Flow {
    reason: Reason,
    protocol: u16,
    address: IpAddr,
    port: u16,
    /// The name of its TLS handshake, where that was judged.
    name: Option<String>,
}

/// How often and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Uses {
    times: u64,
    first: Timestamp,
    last: Timestamp,
}

/// A name that was asked for.
#[derive(Clone, Debug)]
struct Asked {
    uses: Uses,
    records: BTreeSet<String>,
    /// No rule covers it, or not with these records.
    lacking: bool,
}

/// A query and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The name, harmless.
    pub name: &'a str,
    /// The record type.
    pub record: &'a str,
    /// Whether the policy as it stands would have refused it.
    pub lacking: bool,
    /// Addresses of the answer.
    pub addresses: &'a [IpAddr],
}

impl Learned {
    /// Notes an event of a tool in `observe` mode.
    pub fn flow(&self, event: &Event, now: Timestamp) {
        let (Some(tool), Some(session)) = (&event.tool, event.session) else {
            return;
        };
        self.note(tool, session, |record, room| {
            record.missing = record.missing.saturating_add(event.suppressed.into());
            // What the resolver let through is told by `query`.
            let answered = event.hook == Hook::Resolver && event.outcome == Outcome::Observe;
            if event.outcome == Outcome::Allow || answered {
                return;
            }
            let flow = Flow {
                reason: event.reason,
                protocol: event.protocol,
                address: event.address,
                port: event.port,
                name: event.name.clone(),
            };
            if let Some(uses) = record.flows.get_mut(&flow) {
                uses.again(Uses::once(now));
            } else if room {
                record.flows.insert(flow, Uses::once(now));
            } else {
                record.missing = record.missing.saturating_add(1);
            }
        });
    }

    /// Notes a query of a tool in `observe` mode.
    pub fn query(&self, tool: &str, session: u64, query: Query<'_>, now: Timestamp) {
        self.note(tool, session, |record, room| {
            record.asked(&query, room, now);
        });
    }

    /// Notes events of a session that the kernel side suppressed and no event told of.
    pub fn suppressed(&self, tool: &str, session: u64, events: u64) {
        if events > 0 {
            self.note(tool, session, |record, _room| {
                record.missing = record.missing.saturating_add(events);
            });
        }
    }

    /// What the sessions of a tool did: one of them, or all; not what was last done before `since`.
    #[must_use]
    pub fn record(
        &self,
        tool: &str,
        session: Option<u64>,
        since: Option<Timestamp>,
    ) -> Option<Record> {
        let tools = self.lock();
        let tool = tools.get(tool)?;
        let mut record = match session {
            Some(wanted) => {
                let found = tool.sessions.iter().find(|(id, _)| *id == wanted);
                found.map(|(_, record)| record.clone())?
            }
            None => {
                let mut united = tool.earlier.clone();
                united.sessions = tool.earlier_sessions;
                for (_, record) in &tool.sessions {
                    united.unite(record.clone(), usize::MAX);
                    united.sessions = united.sessions.saturating_add(1);
                }
                united
            }
        };
        if session.is_some() {
            record.sessions = 1;
        }
        if let Some(since) = since {
            record.flows.retain(|_, uses| uses.last >= since);
            record.names.retain(|_, asked| asked.uses.last >= since);
        }
        Some(record)
    }

    fn note(&self, tool: &str, session: u64, note: impl FnOnce(&mut Record, bool)) {
        let mut tools = self.lock();
        let things: usize = tools.values().map(Tool::things).sum();
        if !tools.contains_key(tool) {
            tools.insert(tool.to_owned(), Tool::default());
        }
        let Some(tool) = tools.get_mut(tool) else {
            return;
        };
        let record = tool.of(session);
        let room = things < THINGS_MAX && record.things() < THINGS_PER_SESSION_MAX;
        note(record, room);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tool>> {
        // Every change leaves whole maps behind it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tool {
    fn things(&self) -> usize {
        let sessions = self.sessions.iter().map(|(_, record)| record.things());
        sessions.fold(self.earlier.things(), usize::saturating_add)
    }

    /// The record of a session; the oldest makes room for a new one.
    fn of(&mut self, session: u64) -> &mut Record {
        // The newest sessions speak most, and they stand at the end.
        let at = self.sessions.iter().rposition(|(id, _)| *id == session);
        let at = at.unwrap_or_else(|| {
            if self.sessions.len() >= SESSIONS_PER_TOOL_MAX
                && let Some((_, oldest)) = self.sessions.pop_front()
            {
                self.earlier.unite(oldest, THINGS_PER_SESSION_MAX);
                self.earlier_sessions = self.earlier_sessions.saturating_add(1);
            }
            self.sessions.push_back((session, Record::default()));
            self.sessions.len().saturating_sub(1)
        });
        match self.sessions.get_mut(at) {
            Some((_, record)) => record,
            // The place was found or made above.
            None => &mut self.earlier,
        }
    }
}

impl Record {
    fn things(&self) -> usize {
        let things = self.flows.len().saturating_add(self.names.len());
        things.saturating_add(self.addresses.len())
    }

    fn asked(&mut self, query: &Query<'_>, room: bool, now: Timestamp) {
        let asked = match self.names.get_mut(query.name) {
            Some(asked) => {
                asked.uses.again(Uses::once(now));
                asked
            }
            None if room => {
                let new = Asked {
                    uses: Uses::once(now),
                    records: BTreeSet::new(),
                    lacking: false,
                };
                self.names.entry(query.name.to_owned()).or_insert(new)
            }
            None => {
                self.missing = self.missing.saturating_add(1);
                return;
            }
        };
        asked.lacking |= query.lacking;
        // Record types are few: an unknown one is spelt by its number, and 65,536 fit nobody's need.
        if asked.records.len() < Asked::RECORDS_MAX {
            asked.records.insert(query.record.to_owned());
        }
        for address in query.addresses {
            let known = self.addresses.contains_key(address);
            if !known && self.things() >= THINGS_PER_SESSION_MAX {
                self.missing = self.missing.saturating_add(1);
                continue;
            }
            let names = self.addresses.entry(*address).or_default();
            if names.len() < NAMES_PER_ADDRESS_MAX {
                names.insert(query.name.to_owned());
            }
        }
    }

    /// Takes another record in, as far as there is room.
    fn unite(&mut self, other: Self, things_max: usize) {
        let Self {
            flows,
            names,
            addresses,
            sessions: _,
            missing,
        } = other;
        self.missing = self.missing.saturating_add(missing);
        for (flow, uses) in flows {
            if let Some(known) = self.flows.get_mut(&flow) {
                known.again(uses);
            } else if self.things() < things_max {
                self.flows.insert(flow, uses);
            } else {
                self.missing = self.missing.saturating_add(uses.times);
            }
        }
        for (name, asked) in names {
            if let Some(known) = self.names.get_mut(&name) {
                known.uses.again(asked.uses);
                known.records.extend(asked.records);
                known.lacking |= asked.lacking;
            } else if self.things() < things_max {
                self.names.insert(name, asked);
            } else {
                self.missing = self.missing.saturating_add(asked.uses.times);
            }
        }
        for (address, names) in addresses {
            if self.addresses.contains_key(&address) || self.things() < things_max {
                self.addresses.entry(address).or_default().extend(names);
            }
        }
    }
}

impl Asked {
    const RECORDS_MAX: usize = 16;
}

impl Uses {
    fn once(now: Timestamp) -> Self {
        Self {
            times: 1,
            first: now,
            last: now,
        }
    }

    fn again(&mut self, other: Self) {
        self.times = self.times.saturating_add(other.times);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

#[cfg(test)]
mod tests;
