//! Records of calls, as the broker tells them. What a caller or a model chose is bounded here, so that
//! no call can be made unrecordable by its size.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{record::Caller, writer::Shared};

/// Longest text of a caller in a record, bytes; more is cut, and the cut is said.
const TEXT_BYTES_MAX: usize = 512;

/// A call as far as it is known when the record is written. No payloads: what a caller or a model
/// chose and others could guess is there as a salted hash ([`super::Journal::salted`]).
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// The door.
    pub door: &'static str,
    /// The process at the other end.
    pub caller: Caller,
    /// The tool.
    #[serde(serialize_with = "short")]
    pub tool: String,
    /// The verb; empty where it is not known.
    #[serde(serialize_with = "short")]
    pub verb: String,
    /// Who calls, by the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// The token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenRef>,
    /// What the token says that the call is for.
    #[serde(
        serialize_with = "short_maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub purpose: Option<String>,
    /// The orchestrator's session, as the token hashes it.
    #[serde(
        serialize_with = "short_maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub session_hash: Option<String>,
    /// The prompt's hash, as the caller asserts it.
    #[serde(
        serialize_with = "short_maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub prompt_hash: Option<String>,
    /// Digest of the tool's policy, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Salted hash of the canonical arguments, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Salted hash of the idempotency key, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<String>,
}

/// Who calls, by a verified token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Principal {
    /// Who issued the token.
    #[serde(serialize_with = "short")]
    pub issuer: String,
    /// The user.
    #[serde(serialize_with = "short")]
    pub subject: String,
    /// The program that acts for the user.
    #[serde(serialize_with = "short")]
    pub client: String,
}

/// Which token it was; never the token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TokenRef {
    /// Its id (`jti`).
    #[serde(serialize_with = "short")]
    pub id: String,
    /// The key that signed it (`kid`).
    #[serde(serialize_with = "short")]
    pub key: String,
}

/// What came of a call.
#[derive(Clone, Debug, Serialize)]
pub struct CallOutcome {
    /// `done`, `tool_error` or the code of a reason.
    pub code: &'static str,
    /// The session that ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// How long the worker took, seconds.
    pub seconds: f64,
    /// Salted hash of the canonical result, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Size of the result, bytes.
    pub bytes: u64,
    /// Whether this answer was given before.
    pub replayed: bool,
}

/// Why a call was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Refusal<'a> {
    /// The reason's code.
    pub code: &'static str,
    /// For people of the host; no secret.
    #[serde(serialize_with = "short_str")]
    pub detail: &'a str,
}

/// Proof that a call was recorded before it ran. Only the journal makes one, and [`called`] takes it.
/// Where it is dropped instead, the journal says that the outcome is not known.
///
/// [`called`]: super::Journal::called
#[must_use]
#[derive(Debug)]
pub struct CallReceipt {
    sequence: u64,
    journal: Option<Arc<Shared>>,
}

impl CallReceipt {
    pub(super) fn new(sequence: u64, journal: Arc<Shared>) -> Self {
        Self {
            sequence,
            journal: Some(journal),
        }
    }

    /// Number of the record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The outcome is written: nothing is left to say.
    pub(super) fn spend(mut self) {
        self.journal = None;
    }
}

impl Drop for CallReceipt {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take()
            && let Err(error) = journal.outcome_unknown(self.sequence)
        {
            // The next start of the agent says it, if this one can not.
            tracing::error!(call = self.sequence, %error, "end of a call not recorded");
        }
    }
}

fn short<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.len() <= TEXT_BYTES_MAX {
        return serializer.serialize_str(text);
    }
    let kept = text.floor_char_boundary(TEXT_BYTES_MAX);
    let (kept, cut) = text.split_at(kept);
    serializer.collect_str(&format_args!("{kept}… and {} bytes", cut.len()))
}

pub(super) fn short_str<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    short(text, serializer)
}

#[expect(clippy::ref_option, reason = "serde hands references")]
fn short_maybe<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    short(text.as_deref().unwrap_or_default(), serializer)
}
