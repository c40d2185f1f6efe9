//! The append-only file. A receipt means *written*: handed to the kernel, so that it survives the
//! agent's death; it does not mean that a disk has it.
//!
//! A record is one line, written by one `write`. A line that was cut (a full disk, a killed agent)
//! is never mended: it is ended and followed by a record that says so.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::id::SessionId;
use serde::{Deserialize, Serialize};

use super::{
    Receipt,
    error::Error,
    record::{Entry, Intent, Outcome, Plain, Record, Tested},
};
use crate::timestamp::Timestamp;

/// Largest record, bytes, with its end of line.
pub const RECORD_BYTES_MAX: usize = 1 << 18;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    end: Mutex<End>,
}

/// What was found when the journal was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Number of the first record that will be written.
    pub next: u64,
    /// Bytes of a last record that was never finished.
    pub torn_bytes: u64,
}

#[derive(Debug)]
struct End {
    file: File,
    next: u64,
    /// A failed write may have left part of a line.
    torn: bool,
}

/// Of a record that is read back only the number matters.
#[derive(Deserialize)]
struct Numbered {
    sequence: u64,
}

impl Journal {
    /// Opens or makes the file, finds the next number and marks a last record that was cut.
    pub fn open(path: &Path) -> Result<(Self, Opened), Error> {
        let open = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(FOLDER_MODE);
            builder.create(folder).map_err(open)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(FILE_MODE);
        let mut file = options.open(path).map_err(open)?;
        let found = find_end(path, &mut file)?;
        let journal = Self {
            path: path.to_owned(),
            end: Mutex::new(End {
                file,
                next: found.next,
                torn: found.torn_bytes > 0,
            }),
        };
        if found.torn_bytes > 0 {
            journal.append(&Plain::Torn {
                bytes: found.torn_bytes,
            })?;
        }
        journal.append(&Plain::Opened {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
        })?;
        Ok((journal, found))
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

    /// Records that what an earlier agent left running was ended.
    pub fn leftover(&self, cgroup: &str) -> Result<(), Error> {
        self.append(&Plain::Leftover { cgroup })?;
        Ok(())
    }

    /// Whether the last write succeeded.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.lock().torn
    }

    fn append<E: Serialize>(&self, entry: &Entry<'_, E>) -> Result<u64, Error> {
        let mut end = self.lock();
        let sequence = end.next;
        let mut line = Vec::with_capacity(512);
        if end.torn {
            line.push(b'\n');
        }
        let record = Record {
            sequence,
            time: Timestamp::now(),
            entry,
        };
        serde_json::to_writer(&mut line, &record).map_err(Error::Encode)?;
        line.push(b'\n');
        if line.len() > RECORD_BYTES_MAX {
            return Err(Error::Size { size: line.len() });
        }
        // Until it has succeeded: `write_all` may fail with a part written.
        end.torn = true;
        end.file.write_all(&line).map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })?;
        end.torn = false;
        end.next = sequence.saturating_add(1);
        Ok(sequence)
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        // A panic while the lock was held leaves `torn` set, so the state is still true.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the last whole record and how many bytes follow it.
fn find_end(path: &Path, file: &mut File) -> Result<Opened, Error> {
    let tail = read_tail(file).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    if tail.is_empty() {
        return Ok(Opened {
            next: 1,
            torn_bytes: 0,
        });
    }
    let whole = tail.iter().rposition(|byte| *byte == b'\n');
    let (lines, torn) = tail.split_at(whole.map_or(0, |at| at.saturating_add(1)));
    let last = lines
        .rsplit(|byte| *byte == b'\n')
        .find_map(|line| serde_json::from_slice::<Numbered>(line).ok());
    match last {
        Some(Numbered { sequence }) => Ok(Opened {
            next: sequence.saturating_add(1),
            torn_bytes: torn.len() as u64,
        }),
        // The very first record was cut: nothing was promised yet.
        None if lines.is_empty() && tail.len() < RECORD_BYTES_MAX => Ok(Opened {
            next: 1,
            torn_bytes: torn.len() as u64,
        }),
        None => Err(Error::Damaged(path.to_owned())),
    }
}

fn read_tail(file: &mut File) -> io::Result<Vec<u8>> {
    // Room for a whole record before one that was cut.
    let wanted = 2 * RECORD_BYTES_MAX as u64;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(size.saturating_sub(wanted)))?;
    let mut tail = Vec::new();
    file.take(wanted).read_to_end(&mut tail)?;
    Ok(tail)
}
