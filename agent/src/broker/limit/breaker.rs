//! The breaker of a tool: after failures in a row it rests, then one call tries.
//!
//! One user's failures close the tool to that user alone, so that nobody can switch a tool off for
//! others by calls that make it fail; failures of several users close it to all.

use std::time::Duration;

use super::{gcra::Nanos, key::Key};

/// Failures in a row.
const FAILURES: u32 = 5;
/// The first rest.
const REST: Duration = Duration::from_secs(10);
/// The longest rest: each one after a failed trial is twice the one before.
const REST_MAX: Duration = Duration::from_mins(5);
/// Without a failure for so long, it is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// Failures in a row, and what came of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Who failed last.
    last: Option<Key>,
    /// When the rest ends; 0 while it does not rest.
    until: Nanos,
    rests: u32,
    trying: bool,
    /// The last failure.
    at: Nanos,
}

impl Breaker {
    /// Whether a call may pass, else how long to wait.
    pub(super) fn look(&self, now: Nanos) -> Result<(), Duration> {
        if self.until == 0 {
            return Ok(());
        }
        if now < self.until {
            return Err(Duration::from_nanos(self.until.saturating_sub(now)));
        }
        if self.trying { Err(REST) } else { Ok(()) }
    }

    /// A call passes; says whether it is the trial after a rest.
    pub(super) fn pass(&mut self) -> bool {
        let trial = self.until != 0;
        self.trying |= trial;
        trial
    }

    /// A call failed. `alone`: this breaker counts one user, who needs no company.
    pub(super) fn failed(&mut self, user: Key, alone: bool, trial: bool, now: Nanos) {
        // Of one user's failures in a row the tool's own breaker counts the first.
        if alone || self.last != Some(user) {
            self.failures = self.failures.saturating_add(1);
        }
        self.last = Some(user);
        self.at = now;
        let again = trial && self.trying;
        if again || (self.until == 0 && self.failures >= FAILURES) {
            let rest = REST.saturating_mul(1 << self.rests.min(8)).min(REST_MAX);
            self.rests = self.rests.saturating_add(1);
            let rest = u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX);
            self.until = now.saturating_add(rest).max(1);
            self.trying = false;
        }
    }

    /// The trial ended without a word: another may try.
    pub(super) fn undecided(&mut self) {
        self.trying = false;
    }

    /// Whether it no longer counts.
    pub(super) fn is_dead(&self, now: Nanos) -> bool {
        let forgotten = u64::try_from(FORGOTTEN.as_nanos()).unwrap_or(u64::MAX);
        let quiet = now.saturating_sub(self.at.max(self.until));
        !self.trying && quiet > forgotten
    }
}
