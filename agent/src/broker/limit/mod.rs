//! How often: rates, calls at once, calls per day, the same call again and again, and the rest of a
//! tool that fails. Asked only after a caller was found allowed, so that nobody burns another's share.
//!
//! One lock for all of it: a call takes its place in every count or in none, and of a thousand that ask
//! for the last place one gets it.

mod breaker;
mod gcra;
mod key;
mod permit;
mod quota;
mod table;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use self::{
    breaker::Breaker,
    gcra::{Nanos, Window},
    key::{Key, Kind},
    quota::Quotas,
    table::{ENTRIES_MAX, Table},
};
use super::reason::{Reason, Refused};
use crate::policy::compiled::{Subject, Verb};

pub use self::{permit::Permit, quota::QuotaError};

/// Within so long an equal call counts as the same again.
const REPEAT_WITHIN: Duration = Duration::from_mins(1);
/// What a refusal for lack of a place says when to ask again: places come free at any time.
const SOON: Duration = Duration::from_secs(1);
/// Seconds of a day.
const DAY: u64 = 86_400;

/// Who calls what: from a verified token, never from the call's own words.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Issuer of the token.
    pub issuer: &'a str,
    /// Its subject: the user.
    pub subject: &'a str,
    /// Its client.
    pub client: &'a str,
    /// Its session, if it names one.
    pub session: Option<&'a str>,
    /// The tool.
    pub tool: &'a str,
    /// The verb.
    pub verb: &'a str,
}

/// All counts of a broker.
#[derive(Debug)]
pub struct Limiter {
    counts: Arc<Mutex<Counts>>,
    began: Instant,
    wall: fn() -> SystemTime,
}

/// How many entries the tables hold, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Rates.
    pub rates: usize,
    /// Daily quotas.
    pub daily: usize,
    /// Verbs with a call at work.
    pub running: usize,
    /// Sessions whose last call is remembered.
    pub loops: usize,
    /// Breakers.
    pub breakers: usize,
}

#[derive(Debug)]
struct Counts {
    rates: Table<Nanos>,
    running: Table<u32>,
    loops: Table<Repeat>,
    breakers: Table<Breaker>,
    daily: Quotas,
}

/// The last call of a session.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    digest: [u8; 32],
    times: u32,
    at: Nanos,
}

/// What a call would be charged.
struct Charge {
    rates: Vec<(Key, Nanos)>,
    daily: Vec<Key>,
    session: Key,
    repeat: Repeat,
}

impl Limiter {
    /// Opens the file of the daily quotas; makes it if there is none.
    pub fn open(quotas: &Path) -> Result<Self, QuotaError> {
        Self::with_clock(quotas, SystemTime::now)
    }

    fn with_clock(quotas: &Path, wall: fn() -> SystemTime) -> Result<Self, QuotaError> {
        Self::with_room(quotas, wall, ENTRIES_MAX)
    }

    fn with_room(
        quotas: &Path,
        wall: fn() -> SystemTime,
        entries: usize,
    ) -> Result<Self, QuotaError> {
        let (today, _) = day(wall());
        let counts = Counts {
            rates: Table::new(entries),
            running: Table::new(entries),
            loops: Table::new(entries),
            breakers: Table::new(entries),
            daily: Quotas::open(quotas, today)?,
        };
        Ok(Self {
            counts: Arc::new(Mutex::new(counts)),
            began: Instant::now(),
            wall,
        })
    }

    /// A place for a call, or when to ask again. `call_digest` is SHA-256 over tool, verb and arguments.
    pub fn admit(
        &self,
        who: &Who<'_>,
        verb: &Verb,
        call_digest: [u8; 32],
        now: Instant,
    ) -> Result<Permit, Refused> {
        let now = nanos(self.began, now);
        let (today, midnight) = day((self.wall)());
        let running = Key::of(Kind::Running, who, Subject::Verb, "");
        let (user, tool) = (Key::of_tool_and_user(who), Key::of_tool(who));
        let mut counts = lock(&self.counts);
        counts.rested([user, tool], now)?;
        let charge = counts.look(who, verb, call_digest, now, (today, midnight))?;
        let at_work = counts.running.get(&running).copied().unwrap_or_default();
        if at_work >= verb.limits.concurrency {
            return Err(later(Reason::ConcurrencyLimited, SOON));
        }
        counts.room(&charge, running, [user, tool], now, today)?;
        // Nothing was counted so far; the file goes first, for it alone can fail.
        counts
            .daily
            .charge(&charge.daily, today)
            .map_err(|error| Refused::because(Reason::StoreUnavailable, error))?;
        for (key, arrival) in charge.rates {
            counts.rates.insert(key, arrival);
        }
        counts.loops.insert(charge.session, charge.repeat);
        counts.running.insert(running, at_work.saturating_add(1));
        let mut pass = |key| counts.breakers.get_mut(&key).is_some_and(Breaker::pass);
        let (user_trial, tool_trial) = (pass(user), pass(tool));
        drop(counts);
        Ok(Permit {
            counts: Arc::clone(&self.counts),
            began: self.began,
            running,
            user,
            tool,
            user_trial,
            tool_trial,
            told: false,
        })
    }

    /// How many entries the tables hold.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let counts = lock(&self.counts);
        Sizes {
            rates: counts.rates.len(),
            daily: counts.daily.len(),
            running: counts.running.len(),
            loops: counts.loops.len(),
            breakers: counts.breakers.len(),
        }
    }
}

impl Counts {
    fn rested(&self, keys: [Key; 2], now: Nanos) -> Result<(), Refused> {
        for key in keys {
            if let Some(breaker) = self.breakers.get(&key) {
                let rested = breaker.look(now);
                rested.map_err(|wait| later(Reason::BreakerOpen, wait))?;
            }
        }
        Ok(())
    }

    /// What the call would be charged; counts nothing.
    fn look(
        &self,
        who: &Who<'_>,
        verb: &Verb,
        digest: [u8; 32],
        now: Nanos,
        (today, midnight): (u32, Duration),
    ) -> Result<Charge, Refused> {
        let repeat = self.repeat(who, verb.limits.repeats, digest, now)?;
        let mut rates = Vec::with_capacity(verb.limits.rates.len());
        let mut wait = Duration::ZERO;
        for rate in &verb.limits.rates {
            let key = Key::of(Kind::Rate, who, rate.subject, &rate.to_string());
            let arrival = self.rates.get(&key).copied().unwrap_or_default();
            match Window::new(rate.count, rate.per).take(arrival, now) {
                Ok(next) => rates.push((key, next)),
                Err(longer) => wait = wait.max(longer),
            }
        }
        if !wait.is_zero() {
            return Err(later(Reason::RateLimited, wait));
        }
        let mut daily = Vec::with_capacity(verb.limits.per_day.len());
        for quota in &verb.limits.per_day {
            // Without the number: raising a quota does not begin the day anew.
            let key = Key::of(Kind::Daily, who, quota.subject, "day");
            if self.daily.calls(&key, today) >= quota.count {
                return Err(later(Reason::QuotaSpent, midnight));
            }
            if !daily.contains(&key) {
                daily.push(key);
            }
        }
        Ok(Charge {
            rates,
            daily,
            session: Key::of_loop(who),
            repeat,
        })
    }

    fn repeat(
        &self,
        who: &Who<'_>,
        most: u32,
        digest: [u8; 32],
        now: Nanos,
    ) -> Result<Repeat, Refused> {
        let within = u64::try_from(REPEAT_WITHIN.as_nanos()).unwrap_or(u64::MAX);
        let first = Repeat {
            digest,
            times: 1,
            at: now,
        };
        let last = self.loops.get(&Key::of_loop(who));
        let Some(last) = last.filter(|last| last.digest == digest) else {
            return Ok(first);
        };
        let ends = last.at.saturating_add(within);
        if now >= ends {
            return Ok(first);
        }
        if last.times >= most {
            let wait = Duration::from_nanos(ends.saturating_sub(now));
            return Err(later(Reason::LoopGuard, wait));
        }
        let times = last.times.saturating_add(1);
        Ok(Repeat { times, ..first })
    }

    /// Whether every table can take the call.
    fn room(
        &mut self,
        charge: &Charge,
        running: Key,
        breakers: [Key; 2],
        now: Nanos,
        today: u32,
    ) -> Result<(), Refused> {
        let within = u64::try_from(REPEAT_WITHIN.as_nanos()).unwrap_or(u64::MAX);
        let new = charge.rates.iter();
        let new_rates = new.filter(|(key, _)| self.rates.get(key).is_none()).count();
        let daily = charge.daily.iter();
        let new_daily = daily.filter(|key| !self.daily.knows(key)).count();
        let new_loops = usize::from(self.loops.get(&charge.session).is_none());
        let new_running = usize::from(self.running.get(&running).is_none());
        let new_breakers = breakers.iter();
        let new_breakers = new_breakers.filter(|key| self.breakers.get(key).is_none());
        let new_breakers = new_breakers.count();
        let stale = |last: &Repeat| now >= last.at.saturating_add(within);
        let fits = self
            .rates
            .has_room(new_rates, now, |arrival| *arrival <= now)
            && self.running.has_room(new_running, now, |_| false)
            && self.loops.has_room(new_loops, now, stale)
            && self
                .breakers
                .has_room(new_breakers, now, |breaker| breaker.is_dead(now))
            && self.daily.has_room(new_daily, now, today);
        if fits {
            Ok(())
        } else {
            Err(later(Reason::LimiterFull, SOON))
        }
    }
}

fn later(reason: Reason, after: Duration) -> Refused {
    Refused {
        reason,
        detail: String::new(),
        retry_after: Some(after),
    }
}

fn nanos(began: Instant, now: Instant) -> Nanos {
    let passed = now.saturating_duration_since(began);
    u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
}

/// The day, and how long until the next.
fn day(now: SystemTime) -> (u32, Duration) {
    let seconds = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let left = DAY.saturating_sub(seconds.checked_rem(DAY).unwrap_or_default());
    let day = seconds.checked_div(DAY).unwrap_or_default();
    let day = u32::try_from(day).unwrap_or(u32::MAX);
    (day, Duration::from_secs(left))
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
