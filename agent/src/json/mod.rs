//! Strict JSON: what a parser must refuse before anything is signed, hashed or compared, and the one
//! canonical form (RFC 8785). Pure: no I/O, no knowledge of what the values mean.
//!
//! What comes out of [`parse`] is a value that everybody reads alike: no key twice, no number that a
//! double would round, `1.0` and `1` the same integer. So two values are equal exactly where their
//! canonical bytes are.

pub mod canonical;
mod number;
mod strict;

use aws_lc_rs::digest;
use serde_json::Value;

pub use strict::parse;

/// Deepest nesting that the tokeniser follows; a larger [`Limits::depth`] means this.
pub const DEPTH_MAX: usize = 127;
/// Objects in one value: each costs some hundred bytes of memory, however few of input.
pub const OBJECTS_MAX: usize = 16_384;

/// Bytes of a canonical form that most are smaller than.
const CANONICAL_BYTES: usize = 512;

/// Bounds of one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest text, bytes.
    pub bytes: usize,
    /// Deepest nesting of objects and arrays; `[]` has the depth 1.
    pub depth: usize,
}

impl Default for Limits {
    /// 1 MiB, 64 deep.
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            depth: 64,
        }
    }
}

/// The text is not one strict JSON value (RFC 8259, I-JSON: RFC 7493). None of these holds anything of
/// the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Longer than [`Limits::bytes`].
    #[error("json: more than {0} bytes")]
    Long(usize),
    /// Deeper than [`Limits::depth`].
    #[error("json: nested deeper than {depth} at byte {at}")]
    Deep {
        /// The bound.
        depth: usize,
        /// Where it is passed.
        at: usize,
    },
    /// More than [`OBJECTS_MAX`] objects.
    #[error("json: more than {OBJECTS_MAX} objects")]
    Objects,
    /// Not UTF-8.
    #[error("json: not UTF-8 at byte {0}")]
    Encoding(usize),
    /// A number that no double holds exactly, or a whole one beyond ±(2^53 − 1).
    #[error("json: the number at byte {0} has no exact form")]
    Number(usize),
    /// A key twice in one object.
    #[error("json: a key twice in one object, line {line}, column {column}")]
    DuplicateKey {
        /// From 1.
        line: usize,
        /// From 1, bytes.
        column: usize,
    },
    /// A code point that is no character (`U+FFFE`, `U+FDD0` …).
    #[error("json: a code point that is no character, line {line}, column {column}")]
    NoCharacter {
        /// From 1.
        line: usize,
        /// From 1, bytes.
        column: usize,
    },
    /// No JSON at all, a lone surrogate, or more than one value.
    #[error("json: malformed at line {line}, column {column}")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1, bytes.
        column: usize,
    },
}

/// The canonical bytes of a value (RFC 8785): keys in the order of their UTF-16 units, numbers as
/// ECMAScript writes them, no space.
///
/// A value that [`parse`] returned always has them; so has every value without a number that a double
/// does not hold. (Of others, whole numbers come out as the double that is nearest.)
#[must_use]
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut form = Vec::with_capacity(CANONICAL_BYTES);
    // Neither a `Value` nor memory can fail to be written.
    canonical::write(value, &mut form).ok();
    form
}

/// SHA-256 of the canonical bytes.
#[must_use]
pub fn digest(value: &Value) -> [u8; 32] {
    sha256(&canonical(value))
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests;
