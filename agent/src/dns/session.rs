//! What is counted and remembered of each session: its rate, its budget of names, what waits, what
//! was granted. Bounded, and gone with the session.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    flow::Address,
    id::{Generation, SessionId},
    limits::{GRANTS_PER_SESSION_MAX, SESSIONS_MAX},
};

use super::{
    gate::Admitted,
    ready::Ready,
    settings::{Limits, REFUSALS_PER_SECOND},
};

/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;
/// The span of the budget of names.
const MINUTE_NS: u64 = 60 * NS;
/// Events of one session in a second; the rest is counted only.
const EVENTS_PER_SECOND: u32 = 100;
/// A session that has been silent for so long is forgotten when there is no room for another.
const SILENT_NS: u64 = MINUTE_NS;

/// All sessions that asked.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Mutex<HashMap<SessionId, Arc<Session>>>,
}

/// One session.
#[derive(Debug, Default)]
pub(super) struct Session {
    state: Mutex<State>,
    pub(super) waiting: Gauge,
    pub(super) connections: Gauge,
}

/// What a session did lately.
#[derive(Debug, Default)]
pub(super) struct State {
    bucket: Bucket,
    names: Budget,
    events: Window,
    refusals: Window,
    pub(super) granted: Granted,
    pub(super) ready: Ready,
    seen_ns: u64,
}

/// Why a query is over a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Over;

impl Sessions {
    /// The session's state; `None` where there is no room, which no host with at most
    /// [`SESSIONS_MAX`] living sessions sees.
    pub(super) fn get(&self, id: SessionId, now_ns: u64) -> Option<Arc<Session>> {
        let mut all = lock(&self.all);
        if let Some(session) = all.get(&id) {
            return Some(Arc::clone(session));
        }
        if all.len() >= SESSIONS_MAX as usize {
            all.retain(|_, session| {
                Arc::strong_count(session) > 1 || session.lock().seen_ns + SILENT_NS > now_ns
            });
            if all.len() >= SESSIONS_MAX as usize {
                return None;
            }
        }
        Some(Arc::clone(all.entry(id).or_default()))
    }

    pub(super) fn forget(&self, id: SessionId) {
        lock(&self.all).remove(&id);
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.all).len()
    }
}

impl Session {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Takes one query from the session's allowance.
    pub(super) fn take_query(&mut self, limits: &Limits, now_ns: u64) -> Result<(), Over> {
        self.seen_ns = now_ns;
        self.bucket.take(
            u64::from(limits.queries_per_second),
            u64::from(limits.query_burst),
            now_ns,
        )
    }

    /// Takes a name under a wildcard from the session's budget. A name of this minute is free.
    pub(super) fn take_name(
        &mut self,
        admitted: &Admitted,
        limits: &Limits,
        now_ns: u64,
    ) -> Result<(), Over> {
        let Some(bytes) = admitted.chosen_bytes else {
            return Ok(());
        };
        self.names
            .take(admitted.question.name.as_str(), bytes, limits, now_ns)
    }

    /// When the minute of the session's names began, nanoseconds since boot; none where it is over.
    pub(super) fn minute_ns(&self, now_ns: u64) -> Option<u64> {
        self.names.minute_ns(now_ns)
    }

    /// Whether a name under a wildcard was taken from this minute's budget.
    pub(super) fn has_taken(&self, name: &str) -> bool {
        self.names.has(name)
    }

    /// Whether a query over the rate is still told so in this second.
    pub(super) fn may_refuse(&mut self, now_ns: u64) -> bool {
        self.refusals.take(REFUSALS_PER_SECOND, now_ns)
    }

    /// Whether an event of the session may still go out in this second.
    pub(super) fn may_report(&mut self, now_ns: u64) -> bool {
        self.events.take(EVENTS_PER_SECOND, now_ns)
    }
}

/// A token bucket in thousandths, so that slow rates fill too.
#[derive(Debug, Default)]
struct Bucket {
    /// Nanoseconds since boot of the last look; 0 for a full bucket that was never used.
    looked_ns: u64,
    milli: u64,
}

impl Bucket {
    fn take(&mut self, per_second: u64, burst: u64, now_ns: u64) -> Result<(), Over> {
        let full = burst.saturating_mul(1_000);
        if self.looked_ns == 0 {
            self.milli = full;
            self.looked_ns = now_ns;
        }
        // Under a million tokens a second a millisecond's worth is exact.
        let passed_us = now_ns.saturating_sub(self.looked_ns) / 1_000;
        let gained = passed_us.saturating_mul(per_second) / 1_000;
        if gained > 0 {
            self.milli = self.milli.saturating_add(gained).min(full);
            self.looked_ns = now_ns;
        }
        self.milli = self.milli.checked_sub(1_000).ok_or(Over)?;
        Ok(())
    }
}

/// Distinct names and their bytes in a minute.
#[derive(Debug, Default)]
struct Budget {
    began_ns: u64,
    names: HashSet<u64>,
    bytes: usize,
    hasher: RandomState,
}

impl Budget {
    fn minute_ns(&self, now_ns: u64) -> Option<u64> {
        (now_ns.saturating_sub(self.began_ns) < MINUTE_NS).then_some(self.began_ns)
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(&self.hasher.hash_one(name))
    }

    fn take(&mut self, name: &str, bytes: usize, limits: &Limits, now_ns: u64) -> Result<(), Over> {
        if now_ns.saturating_sub(self.began_ns) >= MINUTE_NS {
            self.began_ns = now_ns;
            self.names.clear();
            self.bytes = 0;
        }
        // Keyed with a secret of this process: no worker can choose names that count as one.
        let name = self.hasher.hash_one(name);
        if self.names.contains(&name) {
            return Ok(());
        }
        let total = self.bytes.saturating_add(bytes);
        if self.names.len() >= limits.names_per_minute as usize
            || total > limits.label_bytes_per_minute as usize
        {
            return Err(Over);
        }
        self.bytes = total;
        self.names.insert(name);
        Ok(())
    }
}

/// A count that begins again each second.
#[derive(Debug, Default)]
struct Window {
    began_ns: u64,
    count: u32,
}

impl Window {
    fn take(&mut self, max: u32, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.began_ns) >= NS {
            self.began_ns = now_ns;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= max
    }
}

/// What the kernel was told of a session's addresses, and until when.
///
/// Good for one generation of the policy's rules: the grants of a rule that a push drops make room
/// for others, and are gone when the next push brings the rule back.
#[derive(Debug, Default)]
pub(super) struct Granted {
    generation: Generation,
    /// By address and the ids of the rules, mixed.
    ends_ns: HashMap<(Address, u64), u64>,
}

impl Granted {
    /// What is remembered of this generation; that of any other is forgotten.
    pub(super) fn of(&mut self, generation: Generation) -> &mut Self {
        if self.generation != generation {
            self.generation = generation;
            self.ends_ns.clear();
        }
        self
    }

    /// When the grant ends, nanoseconds since boot.
    pub(super) fn until(&self, address: Address, rules: u64) -> Option<u64> {
        self.ends_ns.get(&(address, rules)).copied()
    }

    /// Remembers a grant. Without room it is forgotten, and given again with the next answer.
    pub(super) fn remember(&mut self, address: Address, rules: u64, end_ns: u64, now_ns: u64) {
        if self.ends_ns.len() >= GRANTS_PER_SESSION_MAX as usize
            && !self.ends_ns.contains_key(&(address, rules))
        {
            self.ends_ns.retain(|_, end| *end > now_ns);
            if self.ends_ns.len() >= GRANTS_PER_SESSION_MAX as usize {
                self.ends_ns.clear();
            }
        }
        self.ends_ns.insert((address, rules), end_ns);
    }
}

/// How many there are of something bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<AtomicUsize>);

/// A place under a bound, given back when dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Place(Arc<AtomicUsize>);

impl Gauge {
    /// Takes a place where fewer than `max` are taken.
    pub(super) fn take(&self, max: usize) -> Option<Place> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < max).then_some(taken + 1)
            })
            .ok()
            .map(|_| Place(Arc::clone(&self.0)))
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A lock whose holder panicked is taken over: every write here leaves the state whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
