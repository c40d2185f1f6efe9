//! What a policy says of paths: pins, lists, the worker's own folders, and what is handed out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[[worker.pin]]`, or a line of the lock file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// Absolute path.
    pub path: PathBuf,
    /// What lies there.
    pub kind: PinKind,
    /// SHA-256 of a file's content, or the sum of a folder (`sandbox::sum`).
    pub sha256: [u8; 32],
}

/// What is pinned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PinKind {
    /// The content of one file.
    File,
    /// A folder with everything below it.
    Directory,
}

impl PinKind {
    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::File, Self::Directory]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// `[worker] lock`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockRule {
    /// A lock file counts where there is one.
    Optional,
    /// Without a lock file the policy is refused.
    Required,
}

impl LockRule {
    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// `[filesystem]`; all paths absolute and without `.` and `..`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filesystem {
    /// Readable.
    pub read: Vec<PathBuf>,
    /// Readable and executable.
    pub execute: Vec<PathBuf>,
    /// Readable and writable.
    pub write: Vec<PathBuf>,
    /// Size of the session's own workdir, bytes.
    pub workdir_size: u64,
    /// Files and folders that it may hold.
    pub workdir_inodes: u64,
    /// Size of the session's `/tmp`, bytes.
    pub tmp_size: u64,
    /// Files and folders that it may hold.
    pub tmp_inodes: u64,
    /// What is handed out when a session ends; nothing without it.
    pub output: Option<Output>,
}

/// `[filesystem.output]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// The host's folder that gets a folder a session.
    pub path: PathBuf,
    /// Bytes of all files together.
    pub size: u64,
    /// Files and folders.
    pub entries: u64,
    /// Folders within folders.
    pub depth: u32,
    /// Permission bits that are taken away.
    pub umask: u32,
    /// User id of what is handed out.
    pub owner: u32,
    /// Group id of what is handed out.
    pub group: u32,
}
