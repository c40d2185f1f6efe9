//! The chain: what makes one line the successor of another.
//!
//! A line is one JSON object in canonical form (RFC 8785). It holds its number, one above that of the
//! line before, and the SHA-256 of the line before, hexadecimal, without its end of line. The first
//! line of all names the hash of nothing: 64 zeros. This file does no I/O.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use std::borrow::Cow;

/// SHA-256.
pub type Hash = [u8; 32];

/// What the first line of all names as its predecessor.
pub(super) const NOTHING: Hash = [0; 32];

/// The last record of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Its number; 0 before the first.
    pub(super) sequence: u64,
    /// SHA-256 of its line.
    pub(super) hash: Hash,
}

impl Head {
    /// Before the first record.
    pub(super) const START: Self = Self {
        sequence: 0,
        hash: NOTHING,
    };

    /// Number of the record that comes next.
    pub(super) fn next(self) -> u64 {
        self.sequence.saturating_add(1)
    }
}

/// What is read back of a line: what links it, and what its kind needs to be checked.
#[derive(Deserialize, Debug)]
pub(super) struct Link<'a> {
    pub(super) sequence: u64,
    #[serde(borrow)]
    pub(super) record: Cow<'a, str>,
    /// Absent in a journal of a version that had no chain.
    #[serde(borrow, default)]
    previous: Option<Cow<'a, str>>,
    /// Of an outcome: the record that it ends.
    #[serde(default)]
    session: Option<u64>,
    #[serde(default)]
    call: Option<u64>,
    #[serde(default)]
    begun: Option<u64>,
    /// Of `segment`: beginnings without an end.
    #[serde(default)]
    pub(super) open: Vec<u64>,
    /// Of `segment`: the signed end of the segment before.
    #[serde(borrow, default)]
    pub(super) checkpoint: Option<Cow<'a, str>>,
    /// Of `torn` and `adopted`: what was there before.
    #[serde(default)]
    pub(super) bytes: u64,
    #[serde(borrow, default)]
    sha256: Option<Cow<'a, str>>,
}

/// What a record does to the set of things that have begun and not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It begins something, named by its own number.
    Begins,
    /// It ends what that record began.
    Ends(u64),
    /// Neither.
    Tells,
}

/// Why a line is not the next one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unlinked {
    /// It is no record at all.
    #[error("is no record")]
    NoRecord,
    /// Its number is not the next one.
    #[error("is record {found} where record {due} is due")]
    Number {
        /// What it is.
        found: u64,
        /// What was due.
        due: u64,
    },
    /// It names another predecessor.
    #[error("does not follow from the line before: one of the two was changed")]
    Previous,
}

impl<'a> Link<'a> {
    /// Reads a line; nothing where it is no record.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whether it is of a journal with a chain.
    pub(super) fn is_chained(&self) -> bool {
        self.previous.is_some()
    }

    /// The hash that it names.
    pub(super) fn previous(&self) -> Option<Hash> {
        unhex(self.previous.as_deref()?)
    }

    /// The hash that a `torn` or `adopted` record tells.
    pub(super) fn sha256(&self) -> Option<Hash> {
        unhex(self.sha256.as_deref()?)
    }

    /// Whether it comes after that record.
    pub(super) fn follows(&self, head: Head) -> Result<(), Unlinked> {
        if self.sequence != head.next() {
            return Err(Unlinked::Number {
                found: self.sequence,
                due: head.next(),
            });
        }
        if self.previous() == Some(head.hash) {
            Ok(())
        } else {
            Err(Unlinked::Previous)
        }
    }

    /// What it begins or ends.
    pub(super) fn step(&self) -> Step {
        let ended = match self.record.as_ref() {
            "intent" | "self_test" | "call" => return Step::Begins,
            "outcome" | "self_tested" => self.session,
            "called" => self.call,
            "outcome_unknown" => self.begun,
            _ => None,
        };
        ended.map_or(Step::Tells, Step::Ends)
    }
}

/// SHA-256 of bytes.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    let mut hash = NOTHING;
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Hexadecimal, lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let halves = bytes
        .iter()
        .flat_map(|byte| [usize::from(byte >> 4), usize::from(byte & 15)]);
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    text.extend(halves.filter_map(|half| DIGITS.get(half)));
    text
}

/// The hash that 64 lower-case digits write.
pub(super) fn unhex(text: &str) -> Option<Hash> {
    if text.len() != 64 {
        return None;
    }
    let mut hash = NOTHING;
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(hash)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}
