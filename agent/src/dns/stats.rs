//! Numbers for metrics: each query is counted once, by what it got.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A reading of the resolver's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Queries that were answered with records.
    pub answered: u64,
    /// Queries that were answered with: there is nothing.
    pub nothing: u64,
    /// Queries for names or types that the policy does not allow.
    pub refused: u64,
    /// Queries over a limit or budget.
    pub limited: u64,
    /// Queries that were malformed.
    pub malformed: u64,
    /// Queries of askers that are no worker, or are none any more when the answer is there.
    pub unknown: u64,
    /// Queries that failed: upstream, grants, no room.
    pub failed: u64,
    /// Answers of which every address was special-purpose.
    pub private: u64,
    /// Answers for which no grant could be written.
    pub grants_full: u64,
    /// Queries that were answered from the cache.
    pub cache_hits: u64,
    /// Questions that were asked upstream.
    pub asked: u64,
    /// Questions that upstream did not answer.
    pub upstream_failures: u64,
    /// Events that were not sent because a session had too many.
    pub events_suppressed: u64,
    /// Replies that the socket did not take.
    pub replies_lost: u64,
    /// Queries that wait for upstream.
    pub waiting: usize,
    /// TCP connections.
    pub connections: usize,
    /// Sessions with state here.
    pub sessions: usize,
    /// Answers in the cache.
    pub cache_entries: usize,
    /// Bytes of the cache, about.
    pub cache_bytes: usize,
}

/// What a query of a worker got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// Records.
    Answered,
    /// There is nothing.
    Nothing,
    /// The policy does not allow it.
    Refused,
    /// It was over a limit or budget.
    Limited,
    /// It was malformed.
    Malformed,
    /// Every address was special-purpose.
    Private,
    /// No grant could be written.
    GrantsFull,
    /// Upstream did not answer, or there was no room.
    Failed,
}

impl Served {
    /// Metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Nothing => "nothing",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Malformed => "malformed",
            Self::Private => "private",
            Self::GrantsFull => "grants_full",
            Self::Failed => "failed",
        }
    }
}

/// One number.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The running numbers.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) answered: Counter,
    pub(super) nothing: Counter,
    pub(super) refused: Counter,
    pub(super) limited: Counter,
    pub(super) malformed: Counter,
    pub(super) unknown: Counter,
    pub(super) failed: Counter,
    pub(super) private: Counter,
    pub(super) grants_full: Counter,
    pub(super) cache_hits: Counter,
    pub(super) asked: Counter,
    pub(super) upstream_failures: Counter,
    pub(super) events_suppressed: Counter,
    pub(super) replies_lost: Counter,
}

impl Counters {
    /// The counter of what a query got.
    pub(super) fn of(&self, served: Served) -> &Counter {
        match served {
            Served::Answered => &self.answered,
            Served::Nothing => &self.nothing,
            Served::Refused => &self.refused,
            Served::Limited => &self.limited,
            Served::Malformed => &self.malformed,
            Served::Private => &self.private,
            Served::GrantsFull => &self.grants_full,
            Served::Failed => &self.failed,
        }
    }

    /// The counters, with everything that is not counted at zero.
    pub(super) fn read(&self) -> Stats {
        Stats {
            answered: self.answered.get(),
            nothing: self.nothing.get(),
            refused: self.refused.get(),
            limited: self.limited.get(),
            malformed: self.malformed.get(),
            unknown: self.unknown.get(),
            failed: self.failed.get(),
            private: self.private.get(),
            grants_full: self.grants_full.get(),
            cache_hits: self.cache_hits.get(),
            asked: self.asked.get(),
            upstream_failures: self.upstream_failures.get(),
            events_suppressed: self.events_suppressed.get(),
            replies_lost: self.replies_lost.get(),
            ..Stats::default()
        }
    }
}
