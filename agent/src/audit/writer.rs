//! The end of the chain: one record is one line, written by one `write` under one lock.
//!
//! A line that was cut (a full disk, a killed agent) is never mended: it is ended, and a record with
//! its size and hash says so. A file that has grown to [`SEGMENT_BYTES_MAX`] is closed: it takes the
//! number of its first record into its name, and the next one begins with a checkpoint of its end.

use std::{
    fs::{self, File},
    hint::spin_loop,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
};

use serde::Serialize;
use tokio::sync::watch;

use super::{
    chain::{Head, Step, hash, hex},
    checkpoint::Signed,
    draft::Draft,
    end::{Disk, End, Start, Tail, Urgency},
    error::Error,
    journal::RECORD_BYTES_MAX,
    key::Key,
    place::Place,
    record::{Entry, Plain},
    segment::{begin_segment, write_all},
    walk::{Line, Walk},
};

/// Size from which on a file is closed, bytes. The agent reads the last file when it starts.
pub(super) const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// How often a lock that is taken is tried before sleeping, and how long is waited between two tries: some
/// 20 µs in all.
const TRIES: u32 = 100;
const PAUSES: u32 = 8;

/// What is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// Everything up to this record.
    Upto(u64),
    /// Nobody knows: the disk failed.
    Unknown,
}

/// The journal as its writers and the thread that syncs it share it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) place: Place,
    pub(super) key: Key,
    pub(super) end: Mutex<End>,
    /// Wakes the thread.
    pub(super) wake: Condvar,
    pub(super) kept: watch::Sender<Kept>,
    /// The last checkpoint.
    pub(super) signed: watch::Sender<Option<Signed>>,
    segment_bytes_max: u64,
    /// Bytes that the disk still takes, for tests.
    #[cfg(test)]
    room: std::sync::atomic::AtomicUsize,
    /// Whether the disk takes nothing that is synced before a file is closed, for tests.
    #[cfg(test)]
    unsynced: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub(super) fn new(place: Place, key: Key, start: Start, segment_bytes_max: u64) -> Self {
        Self {
            place,
            key,
            end: Mutex::new(End::from(start)),
            wake: Condvar::new(),
            kept: watch::Sender::new(Kept::Upto(0)),
            signed: watch::Sender::new(None),
            segment_bytes_max,
            #[cfg(test)]
            room: usize::MAX.into(),
            #[cfg(test)]
            unsynced: false.into(),
        }
    }

    /// Makes the disk full after so many bytes.
    #[cfg(test)]
    pub(super) fn leave_room(&self, bytes: usize) {
        self.room.store(bytes, std::sync::atomic::Ordering::SeqCst);
    }

    /// As when a sync has failed.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.lock().disk = Disk::Lost;
        self.kept.send_replace(Kept::Unknown);
    }

    /// Makes the sync before a file is closed fail.
    #[cfg(test)]
    pub(super) fn fail_sync(&self) {
        let unsynced = &self.unsynced;
        unsynced.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    #[cfg(test)]
    fn sync(&self, file: &File) -> io::Result<()> {
        if self.unsynced.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::Error::other("the tests' disk failed"));
        }
        file.sync_data()
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' disk can fail")]
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    #[cfg(test)]
    fn write_all(&self, file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
        use std::sync::atomic::Ordering::SeqCst;
        let room = self.room.load(SeqCst);
        let fits = bytes.len().min(room);
        self.room.store(room - fits, SeqCst);
        let (written, result) = write_all(file, bytes.get(..fits).unwrap_or(bytes));
        if fits < bytes.len() {
            return (written, Err(io::ErrorKind::StorageFull.into()));
        }
        (written, result)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' disk has a size")]
    fn write_all(&self, file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
        write_all(file, bytes)
    }

    /// Writes one record; its number.
    pub(super) fn append<E: Serialize>(
        &self,
        entry: &Entry<'_, E>,
        urgency: Urgency,
    ) -> Result<u64, Error> {
        // Others wait for the lock, and whoever waits for long sleeps.
        let draft = Draft::new(entry)?;
        let mut end = self.lock();
        if end.disk == Disk::Lost {
            return Err(Error::Disk(self.place.active()));
        }
        self.mend(&mut end)?;
        if end.size >= self.segment_bytes_max {
            self.rotate(&mut end)?;
        }
        let sequence = self.put(&mut end, &draft)?;
        let earlier = end.hurry(urgency);
        drop(end);
        if earlier {
            self.wake.notify_one();
        }
        Ok(sequence)
    }

    /// The call that this record began ended unseen.
    pub(super) fn outcome_unknown(&self, begun: u64) -> Result<u64, Error> {
        self.append(&Plain::OutcomeUnknown { begun }, Urgency::Call)
    }

    /// Waits until a record is on the disk.
    pub(super) async fn kept(&self, sequence: u64) -> Result<(), Error> {
        let mut kept = self.kept.subscribe();
        let upto = kept
            .wait_for(|kept| match kept {
                Kept::Upto(upto) => *upto >= sequence,
                Kept::Unknown => true,
            })
            .await;
        match upto.as_deref() {
            Ok(Kept::Upto(_)) => Ok(()),
            Ok(Kept::Unknown) | Err(_) => Err(Error::Disk(self.place.active())),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        let end = self.lock();
        end.disk == Disk::Well && !end.unsigned
    }

    /// What is done under the lock takes some microseconds; to sleep and be woken takes many times that.
    pub(super) fn lock(&self) -> MutexGuard<'_, End> {
        for _ in 0..TRIES {
            match self.end.try_lock() {
                Ok(end) => return end,
                Err(TryLockError::Poisoned(end)) => return end.into_inner(),
                Err(TryLockError::WouldBlock) => (0..PAUSES).for_each(|_| spin_loop()),
            }
        }
        // What is done under the lock leaves the state true at each step.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what was left unfinished and says so.
    fn mend(&self, end: &mut End) -> Result<(), Error> {
        let Some(Tail { bytes, ended }) = end.fragment.clone() else {
            return Ok(());
        };
        if !ended {
            self.write(end, b"\n")?;
        }
        // A line that lacked nothing but its end is a record now, so it has to count as one.
        let damaged = |_| Error::Damaged(self.place.active());
        let mut walk = Walk::new(end.head, std::mem::take(&mut end.open));
        for (bytes, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
            let line = Line {
                bytes: bytes.to_vec(),
                ended: true,
                number,
                offset: 0,
            };
            walk.take(&line).map_err(damaged)?;
        }
        end.head = walk.head();
        let rest = walk.end();
        end.open = walk.into_open();
        end.fragment = rest.map(|fragment| Tail {
            bytes: fragment.bytes,
            ended: true,
        });
        let Some(Tail { bytes, .. }) = &end.fragment else {
            return Ok(());
        };
        let entry = Plain::Torn {
            bytes: bytes.len() as u64,
            sha256: &hex(&hash(bytes)),
        };
        let draft = Draft::new(&entry)?;
        let line = draft.line(end.head);
        // On failure the tail that this leaves is known: `write` has noted it.
        self.write(end, &line)?;
        end.fragment = None;
        advance(end, draft.step(), &line);
        Ok(())
    }

    fn put(&self, end: &mut End, draft: &Draft) -> Result<u64, Error> {
        let line = draft.line(end.head);
        if line.len() > RECORD_BYTES_MAX {
            return Err(Error::Size { size: line.len() });
        }
        self.write(end, &line)?;
        Ok(advance(end, draft.step(), &line))
    }

    /// Writes all of it, or notes what part of it is in the file now.
    fn write(&self, end: &mut End, bytes: &[u8]) -> Result<(), Error> {
        let (written, result) = self.write_all(&end.file, bytes);
        end.size = end.size.saturating_add(written as u64);
        let Err(source) = result else {
            end.disk = Disk::Well;
            return Ok(());
        };
        end.disk = Disk::Failing;
        if let Some(part) = bytes.get(..written).filter(|part| !part.is_empty()) {
            let tail = end.fragment.take();
            let mut whole = match tail {
                None => Vec::new(),
                Some(Tail { mut bytes, ended }) => {
                    if ended {
                        bytes.push(b'\n');
                    }
                    bytes
                }
            };
            whole.extend_from_slice(part);
            end.fragment = Some(Tail {
                bytes: whole,
                ended: false,
            });
        }
        Err(Error::Write {
            path: self.place.active(),
            source,
        })
    }

    /// Closes the file and begins the next. Until the new file has its name nothing has changed.
    fn rotate(&self, end: &mut End) -> Result<(), Error> {
        let (active, coming) = (self.place.active(), self.place.coming());
        let failed = |source| Error::Write {
            path: active.clone(),
            source,
        };
        // The next file signs the end of this one: as everywhere, only what the disk has is signed.
        if let Err(source) = self.sync(&end.file) {
            end.disk = Disk::Lost;
            self.kept.send_replace(Kept::Unknown);
            return Err(failed(source));
        }
        let begun = begin_segment(&self.place, &self.key, end.head, &end.open);
        if begun.is_err() {
            end.disk = Disk::Failing;
        }
        let (file, line) = begun?;
        let closed = self.place.closed(end.first);
        fs::rename(&active, &closed).map_err(failed)?;
        if let Err(source) = fs::rename(&coming, &active) {
            // Whether or not this works: nothing is written to a file with another name.
            if fs::rename(&closed, &active).is_err() {
                end.disk = Disk::Lost;
            }
            return Err(failed(source));
        }
        let before = std::mem::replace(&mut end.file, Arc::new(file));
        end.closed.push(before);
        end.first = end.head.next();
        end.size = line.len() as u64;
        advance(end, Step::Tells, &line);
        Ok(())
    }
}

/// The record is written: the chain ends with it.
fn advance(end: &mut End, step: Step, line: &[u8]) -> u64 {
    let sequence = end.head.next();
    end.head = Head {
        sequence,
        hash: hash(line.strip_suffix(b"\n").unwrap_or(line)),
    };
    match step {
        Step::Begins => drop(end.open.insert(sequence)),
        Step::Ends(begun) => drop(end.open.remove(&begun)),
        Step::Tells => {}
    }
    sequence
}
