//! Warm workers: kept for the next call of the very same principal under the very same policy, and
//! let go when idle.
//!
//! A worker is in here or with one call, never both; the key holds everything that keeps one
//! principal's workers from another's calls.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Client;
use crate::policy::compiled::Digest;

/// For whose calls a worker may be used again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// The policy under which it was started.
    pub policy: Digest,
    /// Who issued the token.
    pub issuer: String,
    /// For whom.
    pub subject: String,
    /// To which client.
    pub client: String,
    /// For which session of the caller's, where that sets workers apart.
    pub session: Option<String>,
}

/// Workers that wait.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    max: usize,
}

struct Idle {
    key: Key,
    tool: String,
    until: Instant,
    client: Client,
}

impl Pool {
    /// One that keeps at most so many.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            max,
        }
    }

    /// A worker that waits for this key, if one does: the one that was used last.
    pub(in crate::broker) fn take(&self, key: &Key) -> Option<Client> {
        loop {
            let mut found = {
                let mut idle = self.lock();
                let at = idle.iter().rposition(|idle| idle.key == *key)?;
                idle.remove(at)
            };
            let client = &mut found.client;
            if found.until > Instant::now() && client.is_fit() && client.come_here().is_ok() {
                return Some(found.client);
            }
            found.client.leave();
        }
    }

    /// Keeps a worker for the next call. Where there is no room the one that waits longest goes.
    pub(in crate::broker) fn put(&self, key: Key, tool: &str, mut client: Client, keep: Duration) {
        let until = Instant::now().checked_add(keep);
        let (Some(until), true) = (until, client.is_fit() && self.max > 0) else {
            return client.leave();
        };
        let gone = {
            let mut idle = self.lock();
            let gone = (idle.len() >= self.max).then(|| idle.remove(0));
            idle.push(Idle {
                key,
                tool: tool.to_owned(),
                until,
                client,
            });
            gone
        };
        if let Some(gone) = gone {
            gone.client.leave();
        }
    }

    /// Lets go those that have waited long enough or have ended.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.let_go(|idle| idle.until <= now || !idle.client.is_fit());
    }

    /// Lets go those of a tool.
    pub fn drain(&self, tool: &str) {
        self.let_go(|idle| idle.tool == tool);
    }

    /// Lets go those of policies that are not in force any more.
    pub fn retain(&self, in_force: impl Fn(&Digest) -> bool) {
        self.let_go(|idle| !in_force(&idle.key.policy));
    }

    /// Lets all go.
    pub fn clear(&self) {
        self.let_go(|_| true);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn let_go(&self, mut concerned: impl FnMut(&mut Idle) -> bool) {
        let gone: Vec<_> = self.lock().extract_if(.., |idle| concerned(idle)).collect();
        for idle in gone {
            idle.client.leave();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Every change is one insertion or removal.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
