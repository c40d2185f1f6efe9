//! Why policy files give no set.

use std::{io, path::PathBuf};

use super::POLICY_FILE_BYTES_MAX;
use crate::{
    ownership::Distrust,
    policy::{error::PolicyError, lock::LockError},
};

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or directory can not be read.
    #[error("policy `{}`: can not be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too large.
    #[error("policy `{}`: more than {POLICY_FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// It is not a regular file.
    #[error("policy `{}`: not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It is not text.
    #[error("policy `{}`: not UTF-8 text, first at byte {at}", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
        /// Offset of the first other byte.
        at: usize,
    },
    /// It was refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Its lock file does not count.
    #[error("lock `{}`{}: {error}", path.display(), line(error))]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        error: LockError,
    },
    /// It wants a lock file and has none.
    #[error(
        "policy `{}`: `lock = \"required\"`, and there is no `{}`\nhint: `stockade policy pin {}`",
        path.display(), lock.display(), path.display()
    )]
    Unlocked {
        /// The policy file.
        path: PathBuf,
        /// The lock file that is missing.
        lock: PathBuf,
    },
    /// Others than root and the agent could have written it.
    #[error("policy {0}")]
    Distrusted(#[source] Distrust),
    /// The set as a whole is more than the kernel's tables hold.
    #[error("policies of `{}`: {count} {what}, {max} is the most", path.display())]
    SetTooLarge {
        /// The directory.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

/// All that is wrong with a directory.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SetError(pub Vec<StoreError>);

fn line(error: &LockError) -> String {
    error
        .line
        .map_or_else(String::new, |line| format!(":{line}"))
}
