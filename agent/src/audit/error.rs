//! What can go wrong with the journal. Each of these refuses the launch that wanted a record.

use std::{io, path::PathBuf};

use super::journal::RECORD_BYTES_MAX;

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
    /// Its end can not be read.
    #[error("journal `{}`: can not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No record near its end can be read, so the next number is unknown.
    #[error(
        "journal `{}`: no record among the last {RECORD_BYTES_MAX} bytes\n\
         hint: move the file away and keep it as evidence",
        .0.display()
    )]
    Damaged(PathBuf),
    /// A record can not be written.
    #[error("journal `{}`: can not be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
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
