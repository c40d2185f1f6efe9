//! The journal: what is told is written, in order, before it is true anywhere else. A receipt means
//! *written*: handed to the kernel, so that it survives the agent's death; who asked for `durable`
//! has also waited for the disk.

use std::{
    fs::File,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use common::id::SessionId;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    Receipt,
    call::{CallOutcome, CallReceipt, CallRecord, Refusal},
    chain::hex,
    checkpoint::Signed,
    commit,
    end::Urgency,
    error::Error,
    place::Place,
    record::{AttachRecord, AttachRefused, Entry, Intent, Outcome, Plain, PolicyChange, Tested},
    recover::{self, Recovered},
    token::TokenChange,
    writer::{SEGMENT_BYTES_MAX, Shared},
};

/// Largest record, bytes, with its end of line.
pub const RECORD_BYTES_MAX: usize = 1 << 18;

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The key's file, locked: nobody else writes this journal.
    _lock: File,
}

/// What was found when the journal was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Number of the first record that will be written.
    pub next: u64,
    /// Bytes of a last record that was never finished.
    pub torn_bytes: u64,
    /// Things that had begun and whose end nobody recorded; it is recorded now that it is not known.
    pub unfinished: u64,
    /// Whether it goes on from a file without a chain.
    pub adopted: bool,
}

/// How the journal does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    /// Number of the last record.
    pub records: u64,
    /// Age of the oldest record that is not on the disk.
    pub lag: Duration,
    /// Things that have begun and not ended.
    pub open: u64,
    /// Whether records, the disk and the checkpoint are all as they should be.
    pub whole: bool,
}

impl Journal {
    /// Opens or makes the journal whose active file is `path`; its other files lie beside it. Walks
    /// that file, refuses a chain that is broken or shorter than its checkpoint, ends a record that
    /// was cut and closes what has begun without an end.
    pub fn open(path: &Path) -> Result<(Self, Opened), Error> {
        Self::open_sized(path, SEGMENT_BYTES_MAX)
    }

    /// With another size at which a file is closed.
    pub(super) fn open_sized(path: &Path, segment_bytes: u64) -> Result<(Self, Opened), Error> {
        let place = Place::new(path)?;
        place.make_folder().map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        let (key, lock, key_is_new) = recover::key(&place)?;
        let Recovered { start, plain } = recover::recover(&place, &key, key_is_new)?;
        let unfinished: Vec<u64> = start.open.iter().copied().collect();
        let opened = Opened {
            next: start.head.next(),
            torn_bytes: start
                .fragment
                .as_ref()
                .map_or(0, |tail| tail.bytes.len() as u64),
            unfinished: unfinished.len() as u64,
            adopted: plain.is_some(),
        };
        let shared = Arc::new(Shared::new(place, key, start, segment_bytes));
        if let Some(plain) = plain {
            let entry = Plain::Adopted {
                file: &plain.name,
                bytes: plain.bytes,
                sha256: &hex(&plain.sha256),
            };
            shared.append(&entry, Urgency::Session)?;
        }
        let version = env!("CARGO_PKG_VERSION");
        let pid = std::process::id();
        shared.append(&Plain::Opened { version, pid }, Urgency::Session)?;
        for begun in unfinished {
            shared.append(&Plain::OutcomeUnknown { begun }, Urgency::Session)?;
        }
        // From here on there is always a checkpoint: one that is missing was removed.
        let signed = commit::first(&shared)?;
        let thread = {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("journal".to_owned());
            builder.spawn(move || commit::run(&shared, signed))
        };
        let thread = thread.map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        let journal = Self {
            shared,
            thread: Some(thread),
            _lock: lock,
        };
        Ok((journal, opened))
    }

    /// Records that a session is about to be launched.
    pub fn intent(&self, intent: &Intent<'_>) -> Result<Receipt, Error> {
        let sequence = self.append(&Plain::Intent(intent))?;
        Ok(Receipt { sequence })
    }

    /// Records what came of a session.
    pub fn outcome<E: Serialize>(
        &self,
        session: SessionId,
        outcome: &Outcome<'_, E>,
    ) -> Result<(), Error> {
        let session = session.0;
        self.append(&Entry::Outcome { session, outcome })?;
        Ok(())
    }

    /// Records that the fence of a tool's policy is about to be tested.
    pub fn self_test(&self, tool: &str, policy: &str) -> Result<Receipt, Error> {
        let sequence = self.append(&Plain::SelfTest { tool, policy })?;
        Ok(Receipt { sequence })
    }

    /// Records what the fence did not refuse, or why there was no test.
    pub fn self_tested(
        &self,
        session: SessionId,
        tested: &Result<Vec<&'static str>, String>,
    ) -> Result<(), Error> {
        let tested = match tested {
            Ok(slipped) => Tested::Slipped(slipped),
            Err(error) => Tested::Failed(error),
        };
        let session = session.0;
        self.append(&Plain::SelfTested { session, tested })?;
        Ok(())
    }

    /// Records what was done about access tokens.
    pub fn token(&self, change: TokenChange<'_>) -> Result<(), Error> {
        self.append(&match change {
            TokenChange::Issued(issued) => Plain::TokenIssued(issued),
            TokenChange::Rotated(rotated) => Plain::TokenKeyRotated(rotated),
            TokenChange::Revoked(revoked) => Plain::TokensRevoked(revoked),
        })?;
        Ok(())
    }

    /// Records that what an earlier agent left running was ended.
    pub fn leftover(&self, session: SessionId, cgroup: &str) -> Result<(), Error> {
        let session = session.0;
        self.append(&Plain::Leftover { session, cgroup })?;
        Ok(())
    }

    /// Records that another set of policies is about to be put in force.
    pub fn policies(&self, change: &PolicyChange<'_>) -> Result<(), Error> {
        self.append(&Plain::Policies(change))?;
        Ok(())
    }

    /// Records that a cgroup is about to be fenced; the number of its session.
    pub fn attached(&self, record: &AttachRecord<'_>) -> Result<SessionId, Error> {
        self.append(&Plain::Attached(record)).map(SessionId)
    }

    /// Records that such a fence is gone.
    pub fn detached(
        &self,
        session: SessionId,
        why: &str,
        refused: &[serde_json::Value],
    ) -> Result<(), Error> {
        let session = session.0;
        self.append(&Plain::Detached {
            session,
            why,
            refused,
        })?;
        Ok(())
    }

    /// Records that something was not attached.
    pub fn attach_refused(&self, record: &AttachRefused<'_>) -> Result<(), Error> {
        self.append(&Plain::AttachRefused(record))?;
        Ok(())
    }

    /// Records that the set in force stays, after [`Journal::policies`] said otherwise.
    pub fn policies_kept(&self, before: Option<&str>, why: &str) -> Result<(), Error> {
        self.append(&Plain::PoliciesKept { before, why })?;
        Ok(())
    }

    /// Records that a call is about to run; where it is to be `durable`, waits for the disk. The call
    /// may begin when this returns, not before.
    pub async fn call(&self, record: &CallRecord, durable: bool) -> Result<CallReceipt, Error> {
        let sequence = self
            .shared
            .append(&Plain::Call(record), urgency_of(durable))?;
        let receipt = CallReceipt::new(sequence, Arc::clone(&self.shared));
        if durable {
            self.shared.kept(sequence).await?;
        }
        Ok(receipt)
    }

    /// Records what came of a call; the number of that record. The caller may be answered when this
    /// returns, not before.
    pub async fn called(
        &self,
        receipt: CallReceipt,
        outcome: &CallOutcome,
        durable: bool,
    ) -> Result<u64, Error> {
        let call = receipt.sequence();
        let entry = Plain::Called { call, outcome };
        let sequence = self.shared.append(&entry, urgency_of(durable))?;
        receipt.spend();
        if durable {
            self.shared.kept(sequence).await?;
        }
        Ok(sequence)
    }

    /// Records that a call was not carried out; the number of that record.
    #[expect(
        clippy::unused_async,
        reason = "every record of a call may come to wait for its turn"
    )]
    pub async fn refused(&self, record: &CallRecord, refusal: Refusal<'_>) -> Result<u64, Error> {
        let entry = Plain::Refused {
            call: record,
            refusal,
        };
        self.shared.append(&entry, Urgency::Call)
    }

    /// HMAC-SHA-256 of a value that others could guess, hexadecimal: equal values look equal, and
    /// nobody without the journal's key can try values out.
    #[must_use]
    pub fn salted(&self, value: &[u8]) -> String {
        self.shared.key.salted(value)
    }

    /// Whether the last write, sync and checkpoint succeeded.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shared.is_whole()
    }

    /// Its checkpoints, for whoever keeps them elsewhere: the last one, each time that there is a new
    /// one.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Option<Signed>> {
        self.shared.signed.subscribe()
    }

    /// How it does.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let whole = self.shared.is_whole();
        let end = self.shared.lock();
        let since = end.syncing_since.or(end.waiting_since);
        Numbers {
            records: end.head.sequence,
            lag: since.map_or(Duration::ZERO, |since| {
                Instant::now().saturating_duration_since(since)
            }),
            open: end.open.len() as u64,
            whole,
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn append<E: Serialize>(&self, entry: &Entry<'_, E>) -> Result<u64, Error> {
        self.shared.append(entry, Urgency::Session)
    }
}

impl Drop for Journal {
    /// Leaves everything on the disk and under a checkpoint.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

fn urgency_of(durable: bool) -> Urgency {
    if durable {
        Urgency::Durable
    } else {
        Urgency::Call
    }
}
