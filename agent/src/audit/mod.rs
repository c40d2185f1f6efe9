//! The record: what must be written before anything runs, and what came of it.
//!
//! It knows nothing of processes, sockets or the kernel; the daemon tells it what happened.

mod call;
mod chain;
mod checkpoint;
mod commit;
mod draft;
mod end;
mod error;
mod journal;
mod key;
mod place;
mod plain;
mod query;
mod record;
mod recover;
mod segment;
mod token;
mod verify;
mod walk;
mod writer;

pub use call::{CallOutcome, CallReceipt, CallRecord, Principal, Refusal, TokenRef};
pub use chain::{Hash, Unlinked};
pub use checkpoint::{Checkpoint, NoteError, Signed, notes};
pub use error::Error;
pub use journal::{Journal, Numbers, Opened, RECORD_BYTES_MAX};
pub use key::{KeyError, VerifierKey};
pub use place::keep;
pub use query::{Filter, Found, query};
pub use record::{
    AttachRecord, AttachRefused, Caller, End, HandedOut, Intent, Outcome, PolicyChange, Spent,
};
pub use token::{Holder, KeyRotated, Token, TokenChange, TokenIssued, TokensRevoked, Whose};
pub use verify::{Against, Finding, VerifyError, Whole, verify};
pub use walk::{Break, Wrong};

use common::id::SessionId;

/// Proof that an intent was written to the journal. Only the journal makes one; `launch` demands it.
#[must_use]
#[derive(Debug)]
pub struct Receipt {
    pub(in crate::audit) sequence: u64,
}

impl Receipt {
    /// Number of the journal record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The session that this record is the beginning of. Session ids *are* record numbers: no
    /// session without a record, and no id twice as long as the journal lives.
    #[must_use]
    pub fn session(&self) -> SessionId {
        SessionId(self.sequence)
    }
}

#[cfg(test)]
mod tests;
