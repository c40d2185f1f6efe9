//! What can go wrong with the journal. Each of these refuses the launch or call that wanted a record.

use std::{io, path::PathBuf};

use super::{checkpoint::NoteError, journal::RECORD_BYTES_MAX, key::KeyError, walk::Break};

/// The journal can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can not be opened or made.
    #[error("journal `{}`: can not be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can not be read.
    #[error("journal `{}`: can not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else writes it.
    #[error("journal `{}`: another process writes it", .0.display())]
    Busy(PathBuf),
    /// It is a device, a pipe or a folder.
    #[error("journal `{}`: is no regular file", .0.display())]
    NoFile(PathBuf),
    /// No record near its end can be read, so the next number is unknown.
    #[error(
        "journal `{}`: no record among the last {RECORD_BYTES_MAX} bytes\n\
         hint: move the file away and keep it as evidence",
        .0.display()
    )]
    Damaged(PathBuf),
    /// Its chain is broken.
    #[error(
        "journal `{}`: {place}\n\
         hint: `stockade audit verify` tells more; move the journal away and keep it as evidence",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// The first bad place.
        place: Break,
    },
    /// It holds less than was signed, or something else.
    #[error(
        "journal `{}`: does not hold record {sequence} as its checkpoint says\n\
         hint: records were cut off or replaced; move the journal away and keep it as evidence",
        path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// The record.
        sequence: u64,
    },
    /// Its checkpoint is gone.
    #[error(
        "journal `{}`: has no checkpoint\n\
         hint: it was removed; move the journal away and keep it as evidence",
        .0.display()
    )]
    NoCheckpoint(PathBuf),
    /// A checkpoint is not what it should be.
    #[error("checkpoint in `{}`: {why}", path.display())]
    Checkpoint {
        /// Where it stands.
        path: PathBuf,
        /// Why.
        why: NoteError,
    },
    /// A key can not be read or made.
    #[error("key `{}`: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: KeyError,
    },
    /// The key of a journal with records is gone.
    #[error(
        "key `{}`: is not there, but the journal has records that it signed\n\
         hint: restore it, or move the journal away and keep it as evidence",
        .0.display()
    )]
    NoKey(PathBuf),
    /// A record can not be written.
    #[error("journal `{}`: can not be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk did not take what was written; what it holds is not known any more.
    #[error(
        "journal `{}`: the disk failed; nothing more is written\n\
         hint: restart the agent when the disk is well",
        .0.display()
    )]
    Disk(PathBuf),
    /// A record is larger than any record may be.
    #[error("journal record: {size} bytes are more than {RECORD_BYTES_MAX}")]
    Size {
        /// Bytes.
        size: usize,
    },
    /// A record has no JSON form.
    #[error("journal record: has no JSON form")]
    Encode(#[source] serde_json::Error),
}
