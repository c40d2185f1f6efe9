//! The thread that puts what was written onto the disk, and signs how far that is.
//!
//! One `fdatasync` serves all who wait: what is written while one runs is served by the next. A
//! checkpoint is signed only of what the disk has, so one that is ahead of its journal means that the
//! journal was cut.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    chain::Head,
    checkpoint::{self, Signed},
    end::{Disk, End},
    error::Error,
    place::{self, FILE_MODE},
    writer::{Kept, Shared},
};

/// Least time between two checkpoints: under load they would cost as much as the records.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);
/// After a checkpoint that could not be written.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(1);

/// What the thread knows of its own work.
struct Work {
    /// The end of what the disk has.
    synced: Head,
    signed: u64,
    signed_at: Option<Instant>,
}

/// Runs until the journal is closed; `signed` is the last record under the checkpoint.
pub(super) fn run(shared: &Shared, signed: Head) {
    let mut work = Work {
        synced: signed,
        signed: signed.sequence,
        signed_at: None,
    };
    loop {
        let stop = wait(shared);
        if round(shared, &mut work, stop).is_err() || stop {
            return;
        }
    }
}

/// Puts all of a journal that was just opened onto the disk and signs it; its last record.
pub(super) fn first(shared: &Shared) -> Result<Head, Error> {
    let (file, head) = {
        let end = shared.lock();
        (Arc::clone(&end.file), end.head)
    };
    let sync = || -> io::Result<()> {
        file.sync_data()?;
        place::sync_folder(shared.place.folder())
    };
    sync().map_err(|source| Error::Write {
        path: shared.place.active(),
        source,
    })?;
    sign(shared, head)?;
    // Who finds none later takes it for removed.
    place::sync_folder(shared.place.folder()).map_err(|source| Error::Write {
        path: shared.place.checkpoint(),
        source,
    })?;
    Ok(head)
}

/// Signs the end of the chain, which is on the disk.
fn sign(shared: &Shared, head: Head) -> Result<(), Error> {
    let note = checkpoint::sign(&shared.key, head);
    place::replace(&shared.place.checkpoint(), note.as_bytes(), FILE_MODE)?;
    shared.signed.send_replace(Some(Signed {
        sequence: head.sequence,
        note: note.into(),
    }));
    Ok(())
}

/// Waits for something to do; tells whether it is the last.
fn wait(shared: &Shared) -> bool {
    let mut end = shared.lock();
    loop {
        if end.stop {
            return true;
        }
        let now = Instant::now();
        end = match end.due {
            Some(due) if due <= now => {
                end.due = None;
                return false;
            }
            Some(due) => {
                let waited = shared.wake.wait_timeout(end, due.duration_since(now));
                waited.map_or_else(|poisoned| poisoned.into_inner().0, |(end, _)| end)
            }
            None => shared
                .wake
                .wait(end)
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        };
    }
}

/// Syncs, tells those who wait, and signs where it is time.
fn round(shared: &Shared, work: &mut Work, last: bool) -> io::Result<()> {
    sync(shared, work, last)?;
    if work.signed < work.synced.sequence {
        sign_when_due(shared, work, last);
    }
    Ok(())
}

fn sync(shared: &Shared, work: &mut Work, last: bool) -> io::Result<()> {
    let (file, closed, head, hurried) = {
        let mut end = shared.lock();
        not_lost(&end)?;
        if !last && end.has_time() {
            return Ok(());
        }
        end.syncing_since = end.waiting_since.take();
        (
            Arc::clone(&end.file),
            std::mem::take(&mut end.closed),
            end.head,
            std::mem::take(&mut end.hurried),
        )
    };
    if head.sequence == work.synced.sequence {
        return Ok(());
    }
    let sync = || -> io::Result<()> {
        for file in &closed {
            file.sync_data()?;
        }
        file.sync_data()?;
        if !closed.is_empty() {
            place::sync_folder(shared.place.folder())?;
        }
        Ok(())
    };
    if let Err(error) = sync() {
        // The kernel may have dropped what it could not write: what the disk has is unknown now,
        // whatever a second attempt says.
        tracing::error!(%error, "journal not synced; nothing more is recorded");
        shared.lock().disk = Disk::Lost;
        shared.kept.send_replace(Kept::Unknown);
        return Err(error);
    }
    let mut end = shared.lock();
    // Only one of two syncs at once hears of an error.
    not_lost(&end)?;
    end.syncing_since = None;
    if hurried {
        end.look_again();
    }
    work.synced = head;
    // Under the lock: it must not cover up that a sync failed.
    shared.kept.send_replace(Kept::Upto(head.sequence));
    drop(end);
    Ok(())
}

/// Where a sync has failed elsewhere, what a later one says is worth nothing.
fn not_lost(end: &End) -> io::Result<()> {
    if end.disk == Disk::Lost {
        return Err(io::Error::other("the disk failed"));
    }
    Ok(())
}

fn sign_when_due(shared: &Shared, work: &mut Work, last: bool) {
    let head = work.synced;
    let due = work
        .signed_at
        .and_then(|at| at.checked_add(CHECKPOINT_INTERVAL))
        .filter(|due| *due > Instant::now() && !last);
    let again = if due.is_some() {
        due
    } else {
        let signed = sign(shared, head);
        work.signed_at = Some(Instant::now());
        let was_unsigned = std::mem::replace(&mut shared.lock().unsigned, signed.is_err());
        match signed {
            Ok(()) => {
                work.signed = head.sequence;
                None
            }
            Err(error) => {
                if !was_unsigned {
                    tracing::error!(%error, "checkpoint not written");
                }
                Instant::now().checked_add(CHECKPOINT_RETRY)
            }
        }
    };
    if let Some(again) = again {
        let mut end = shared.lock();
        end.due = Some(end.due.map_or(again, |due| due.min(again)));
    }
}
