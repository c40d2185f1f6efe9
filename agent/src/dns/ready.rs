//! Replies of a session that were decided a moment ago, so that the same question again is answered
//! by copying. Knows until when a decision holds and decides nothing.
//!
//! One is given again only where deciding anew could not come out otherwise: under the same policy
//! and generation, with the same time to live, and while its name is one of this minute's. Nothing is
//! kept for longer than [`LIFE`]: an address that becomes this host's is judged again, and every grant
//! that was written for the reply outlives it by minutes.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use common::id::Generation;

use super::{
    asker::Asker,
    cache::Kept,
    lease::{GRACE, SLACK},
    query::{HEADER_BYTES, NAME_BYTES_MAX, Query},
    reply::{self, Code, OPT_BYTES},
    stats::Served,
};
use crate::{clock::BootTime, policy::compiled::CompiledPolicy};

/// Longest life of a reply: the time to live that it tells is good for a second.
const LIFE: Duration = Duration::from_secs(1);
/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;
/// Replies of one session; beyond that it begins anew.
const REPLIES_MAX: usize = 128;
/// Bytes of the records of one reply.
const RECORDS_BYTES_MAX: usize = 512;
/// Bytes of a question: name, type and class.
const QUESTION_BYTES_MAX: usize = NAME_BYTES_MAX + 4;

const _: () = assert!(
    LIFE.as_secs() * 60 <= GRACE.as_secs() - SLACK.as_secs(),
    "a grant that was good enough when a reply was decided is so while it is given"
);
const _: () = assert!(
    REPLIES_MAX * (RECORDS_BYTES_MAX + QUESTION_BYTES_MAX) < 128 << 10,
    "with the rest of a session no more than it may have"
);

/// The replies of one session.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// By the question with its name in lower case.
    replies: HashMap<Box<[u8]>, Reply>,
    /// The policy that was in force. Weak: a session that is silent must not keep it.
    policy: Weak<CompiledPolicy>,
    generation: Generation,
}

/// A decided reply, without what differs from query to query.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: Code,
    pub(super) served: Served,
    /// How many records.
    pub(super) count: u16,
    /// The records as they follow the question.
    pub(super) records: Box<[u8]>,
    /// When the minute began whose budget its name was taken from, where it was.
    pub(super) minute_ns: Option<u64>,
    /// When it is decided anew, nanoseconds since boot.
    pub(super) ends_ns: u64,
}

impl Ready {
    /// The reply to a question, where it stands. `minute_ns`: when the minute of the session's names
    /// began, where that is not over.
    pub(super) fn find(
        &self,
        asker: &Asker,
        query: &Query<'_>,
        minute_ns: Option<u64>,
        now: BootTime,
    ) -> Option<&Reply> {
        if self.replies.is_empty() || !self.is_of(asker) {
            return None;
        }
        let reply = self.replies.get(Key::of(query)?.bytes())?;
        let is_named = reply.minute_ns.is_none() || reply.minute_ns == minute_ns;
        (now.0 < reply.ends_ns && is_named).then_some(reply)
    }

    /// Takes a reply.
    pub(super) fn keep(&mut self, asker: &Asker, query: &Query<'_>, reply: Reply) {
        let Some(key) = Key::of(query).filter(|_| reply.records.len() <= RECORDS_BYTES_MAX) else {
            return;
        };
        if !self.is_of(asker) {
            self.policy = Arc::downgrade(&asker.policy);
            self.generation = asker.generation;
            self.replies.clear();
        }
        if self.replies.len() >= REPLIES_MAX && !self.replies.contains_key(key.bytes()) {
            self.replies.clear();
        }
        self.replies.insert(key.bytes().into(), reply);
    }

    fn is_of(&self, asker: &Asker) -> bool {
        // The weak one keeps the place of its policy from being another's.
        self.generation == asker.generation
            && std::ptr::eq(self.policy.as_ptr(), Arc::as_ptr(&asker.policy))
    }
}

impl Reply {
    /// The records of a reply that has just been written, and how many they are.
    pub(super) fn records<'a>(query: &Query<'_>, written: &'a [u8]) -> Option<(u16, &'a [u8])> {
        let begin = HEADER_BYTES + query.question.len();
        let opt = if query.edns.is_some() { OPT_BYTES } else { 0 };
        let records = written.get(begin..written.len().checked_sub(opt)?)?;
        let count = written.get(6..8)?.try_into().ok()?;
        Some((u16::from_be_bytes(count), records))
    }

    /// When a reply with an answer is decided anew: no later than the time to live that it tells
    /// changes.
    pub(super) fn end(kept: &Kept, now: BootTime) -> u64 {
        let next = u64::from(kept.ttl(now.0).saturating_sub(1)).saturating_mul(NS);
        let changes = kept.expires_ns.saturating_sub(next);
        changes.min((now + LIFE).0)
    }

    /// Writes it for a query; `false` where it has more than `bytes_max`.
    pub(super) fn write(&self, query: &Query<'_>, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        reply::again(query, self.code, self.count, &self.records, out);
        out.len() <= bytes_max
    }
}

/// A question with its name in lower case.
struct Key {
    bytes: [u8; QUESTION_BYTES_MAX],
    length: usize,
}

impl Key {
    fn of(query: &Query<'_>) -> Option<Self> {
        let question: &[u8] = &query.question;
        let mut key = Self {
            bytes: [0; QUESTION_BYTES_MAX],
            length: question.len(),
        };
        let bytes = key.bytes.get_mut(..key.length)?;
        bytes.copy_from_slice(question);
        // Lengths of labels are below the letters; the type behind the name may be one.
        let name = bytes.len().checked_sub(4)?;
        bytes.get_mut(..name)?.make_ascii_lowercase();
        Some(key)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
