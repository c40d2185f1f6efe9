//! Answers of upstream servers, shared by all sessions, bounded in number and in bytes.
//!
//! Shared on purpose. That a worker may tell by the time of an answer whether another has lately
//! asked for a name that both may ask for is true of the host's own resolver one step further, whose
//! cache nobody here can part; a cache for each session would not close that and would cost every
//! short session its first answers. Names that only one of two workers may ask for say nothing to
//! the other: the gate comes first. What one session can push out is bounded by its name budget.

use std::{collections::HashMap, sync::Arc};

use super::{answer::Answer, gate::Question};

/// Least time that an answer is kept, nanoseconds: a name with TTL 0 is asked for upstream once a
/// second, not once a query. The asker still sees 0.
const KEPT_NS_MIN: u64 = NS;
/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;
/// Bytes of an entry besides its name and answer, about.
const ENTRY_BYTES: usize = 128;

/// An answer and its end.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) answer: Arc<Answer>,
    /// Nanoseconds since boot.
    pub(super) expires_ns: u64,
}

impl Kept {
    pub(super) fn new(answer: Arc<Answer>, now_ns: u64) -> Self {
        Self {
            expires_ns: now_ns.saturating_add(u64::from(answer.ttl) * NS),
            answer,
        }
    }

    /// Seconds left.
    pub(super) fn ttl(&self, now_ns: u64) -> u32 {
        let left = self.expires_ns.saturating_sub(now_ns).div_ceil(NS);
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}

/// Two halves: what was not asked for since the younger half was last full is dropped as a whole.
#[derive(Debug)]
pub(super) struct Cache {
    young: Half,
    old: Half,
    entries_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Half {
    entries: HashMap<Question, Entry>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    kept: Kept,
    /// When it is no longer given, nanoseconds since boot.
    ends_ns: u64,
}

impl Cache {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            young: Half::default(),
            old: Half::default(),
            entries_max,
            bytes_max,
        }
    }

    pub(super) fn find(&mut self, question: &Question, now_ns: u64) -> Option<Kept> {
        if let Some(entry) = self.young.entries.get(question) {
            return (now_ns < entry.ends_ns).then(|| entry.kept.clone());
        }
        let (question, entry) = self.old.entries.remove_entry(question)?;
        self.old.bytes = self.old.bytes.saturating_sub(bytes(&question, &entry));
        if now_ns >= entry.ends_ns {
            return None;
        }
        let kept = entry.kept.clone();
        self.put(question, entry);
        Some(kept)
    }

    pub(super) fn keep(&mut self, question: Question, kept: Kept, now_ns: u64) {
        let ends_ns = kept.expires_ns.max(now_ns.saturating_add(KEPT_NS_MIN));
        self.put(question, Entry { kept, ends_ns });
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (
            self.young.entries.len() + self.old.entries.len(),
            self.young.bytes + self.old.bytes,
        )
    }

    fn put(&mut self, question: Question, entry: Entry) {
        let bytes = bytes(&question, &entry);
        if bytes > self.bytes_max / 2 {
            return;
        }
        let full = self.young.entries.len() >= self.entries_max / 2
            || self.young.bytes + bytes > self.bytes_max / 2;
        if full {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.put(question, entry, bytes);
    }
}

impl Half {
    fn put(&mut self, question: Question, entry: Entry, size: usize) {
        let frame = size - entry.kept.answer.bytes();
        self.bytes += size;
        if let Some(before) = self.entries.insert(question, entry) {
            self.bytes = self
                .bytes
                .saturating_sub(frame + before.kept.answer.bytes());
        }
    }
}

fn bytes(question: &Question, entry: &Entry) -> usize {
    ENTRY_BYTES + question.name.as_str().len() + entry.kept.answer.bytes()
}

#[cfg(test)]
mod tests;
