//! A call's place while it runs, and what its end says of the tool.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{Counts, breaker::Breaker, key::Key, lock, nanos};

/// A call's place. It holds one of the verb's places until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    pub(super) counts: Arc<Mutex<Counts>>,
    pub(super) began: Instant,
    pub(super) running: Key,
    pub(super) user: Key,
    pub(super) tool: Key,
    pub(super) user_trial: bool,
    pub(super) tool_trial: bool,
    pub(super) told: bool,
}

impl Permit {
    /// The worker did its part.
    pub fn succeeded(mut self) {
        self.told = true;
        let mut counts = lock(&self.counts);
        counts.breakers.remove(&self.user);
        counts.breakers.remove(&self.tool);
    }

    /// The worker did not: it could not be started, died, or did not answer as it has to. An answer
    /// that says "failed" is no failure of this kind.
    pub fn failed(self) {
        self.failed_at(Instant::now());
    }

    pub(super) fn failed_at(mut self, now: Instant) {
        self.told = true;
        let now = nanos(self.began, now);
        let mut counts = lock(&self.counts);
        for (key, alone, trial) in [
            (self.user, true, self.user_trial),
            (self.tool, false, self.tool_trial),
        ] {
            if let Some(breaker) = counts.breakers.get_mut(&key) {
                breaker.failed(self.user, alone, trial, now);
            } else if counts
                .breakers
                .has_room(1, now, |breaker| breaker.is_dead(now))
            {
                let mut breaker = Breaker::default();
                breaker.failed(self.user, alone, trial, now);
                counts.breakers.insert(key, breaker);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        match counts.running.get_mut(&self.running) {
            Some(at_work) if *at_work > 1 => *at_work = at_work.saturating_sub(1),
            _ => counts.running.remove(&self.running),
        }
        if self.told {
            return;
        }
        for (key, trial) in [(self.user, self.user_trial), (self.tool, self.tool_trial)] {
            if let Some(breaker) = counts.breakers.get_mut(&key).filter(|_| trial) {
                breaker.undecided();
            }
        }
    }
}
