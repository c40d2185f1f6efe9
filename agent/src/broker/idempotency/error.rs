//! Why the store can not be used.

use std::{io, path::PathBuf};

/// The store can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file can not be opened or made.
    #[error("idempotency store `{}`: can not be opened", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no store, or its rows can not be read or written.
    #[error("idempotency store: {0}")]
    Rows(Box<redb::Error>),
    /// An answer has no JSON form, or what is kept of it is none.
    #[error("idempotency store: an answer has no JSON form")]
    Reply(#[source] serde_json::Error),
    /// There is no room for an answer.
    #[error("idempotency store: no room for an answer of {0} bytes")]
    Room(u64),
    /// Nobody knows which boot this is.
    #[error("idempotency store: `/proc/sys/kernel/random/boot_id` can not be read")]
    Boot(#[source] io::Error),
    /// The thread that writes it can not be started.
    #[error("idempotency store: its thread can not be started")]
    Thread(#[source] io::Error),
    /// It is closed.
    #[error("idempotency store: is closed")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Rows(Box::new(error.into()))
    }
}
