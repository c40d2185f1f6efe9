//! The sets that were in force: the last few, whole, by digest, with when, who and why. What a restart
//! falls back on and `policy rollback` puts back.
//!
//! Each set is one file, written beside, synced and renamed. A change that was begun leaves a note until
//! its end, so that after a crash the next agent finishes it or takes it back, never half of it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::disk;
use crate::{
    policy::{
        bundle::{BUNDLE_BYTES_MAX, Bundle, BundleError},
        compiled::Digest,
    },
    timestamp::Timestamp,
};

const INDEX: &str = "history.json";
const INDEX_NEW: &str = "history.new";
const NOTE: &str = "change.json";
const SETS: &str = "sets";
const FOLDER_MODE: u32 = 0o700;
/// Bytes of the index: 1,000 entries at a good 500.
const INDEX_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a set's file: its files and the list of their names.
const SET_BYTES_MAX: u64 = 2 * BUNDLE_BYTES_MAX as u64;

/// What brought a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The agent began, and the folder was good.
    Start,
    /// The agent began, and the folder was bad.
    LastGood,
    /// The folder was read again.
    Reload,
    /// Somebody pushed policies.
    Push,
    /// Somebody removed tools.
    Remove,
    /// Somebody put an older set back.
    Rollback,
    /// It was found without its entry: the list of sets was damaged.
    Found,
}

impl Origin {
    /// The word for journal, log and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::LastGood => "last_good",
            Self::Reload => "reload",
            Self::Push => "push",
            Self::Remove => "remove",
            Self::Rollback => "rollback",
            Self::Found => "found",
        }
    }
}

/// A set that was in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of its files, hexadecimal.
    pub digest: String,
    /// When it was put in force (RFC 3339, UTC).
    pub time: String,
    /// What brought it.
    pub origin: Origin,
    /// Who asked; nobody where the agent began or a signal came.
    pub uid: Option<u32>,
    /// Its tools.
    pub tools: usize,
    /// Their rules.
    pub rules: usize,
}

/// A change that was begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// The policy folder that is changed.
    pub(super) folder: PathBuf,
    /// The set that is to be.
    pub(super) entry: Entry,
    /// Digest of the set that was.
    pub(super) before: Option<String>,
}

/// The history can not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file or folder of it failed.
    #[error("policy history `{}`: can not be {action}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A set is not what was kept.
    #[error("policy history `{}`: damaged{}", path.display(), because(error.as_ref()))]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with its bytes; nothing where they are another set's.
        error: Option<BundleError>,
    },
    /// No set has the digest.
    #[error("policy history: no set begins with `{0}`\nhint: `stockade policy history`")]
    Unknown(String),
    /// Several sets begin so.
    #[error("policy history: several sets begin with `{0}`\nhint: give more digits")]
    Ambiguous(String),
    /// There is no older set.
    #[error("policy history: no older set is kept\nhint: `stockade policy history`")]
    NoOlder,
}

fn because(error: Option<&BundleError>) -> String {
    error.map_or_else(
        || ": its bytes are not those of its digest".to_owned(),
        |error| format!(": {error}"),
    )
}

/// The sets of an instance.
#[derive(Debug)]
pub(super) struct History {
    folder: PathBuf,
    keep: usize,
    entries: Vec<Entry>,
}

impl History {
    /// Opens or makes it. A list that can not be read is put aside, and made anew from the sets.
    pub(super) fn open(folder: &Path, keep: usize) -> Result<Self, HistoryError> {
        let mut history = Self {
            folder: folder.to_owned(),
            keep,
            entries: Vec::new(),
        };
        let sets = folder.join(SETS);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(FOLDER_MODE).create(&sets);
        made.map_err(failed(&sets, "made"))?;
        let index = folder.join(INDEX);
        match disk::read_json::<Vec<Entry>>(&index, INDEX_BYTES_MAX) {
            Ok(entries) => history.entries = entries.unwrap_or_default(),
            Err(error) => {
                let aside = folder.join("history.damaged");
                let path = index.display().to_string();
                tracing::error!(path, %error, "list of policy sets damaged: put aside");
                fs::rename(&index, aside).map_err(failed(&index, "put aside"))?;
                history.entries = history.found()?;
            }
        }
        Ok(history)
    }

    /// The sets, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes a set, if it is not there whole already.
    pub(super) fn put(&self, bundle: &Bundle, digest: &Digest) -> Result<(), HistoryError> {
        let path = self.set_path(&digest.to_string());
        let bytes = bundle.encode();
        if disk::read(&path, SET_BYTES_MAX).is_ok_and(|there| there == Some(bytes.clone())) {
            return Ok(());
        }
        disk::replace(&path, &bytes).map_err(failed(&path, "written"))
    }

    /// Reads a set, and makes sure that it is the one that was kept.
    pub(super) fn get(&self, digest: &str) -> Result<Bundle, HistoryError> {
        let path = self.set_path(digest);
        let bytes = disk::read(&path, SET_BYTES_MAX)
            .and_then(|bytes| bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)));
        let bytes = bytes.map_err(failed(&path, "read"))?;
        let damaged = |error| HistoryError::Damaged {
            path: path.clone(),
            error,
        };
        let bundle = Bundle::decode(&bytes).map_err(|error| damaged(Some(error)))?;
        if bundle.digest().to_string() == digest {
            Ok(bundle)
        } else {
            Err(damaged(None))
        }
    }

    /// The one set whose digest begins so.
    pub(super) fn find(&self, beginning: &str) -> Result<String, HistoryError> {
        let fitting = self.entries.iter().map(|entry| &entry.digest);
        let fitting: BTreeSet<&String> = fitting
            .filter(|digest| !beginning.is_empty() && digest.starts_with(beginning))
            .collect();
        let mut fitting = fitting.into_iter();
        match (fitting.next(), fitting.next()) {
            (Some(digest), None) => Ok(digest.clone()),
            (None, _) => Err(HistoryError::Unknown(beginning.to_owned())),
            (Some(_), Some(_)) => Err(HistoryError::Ambiguous(beginning.to_owned())),
        }
    }

    /// The newest set that is not the one in force.
    pub(super) fn older(&self, in_force: &str) -> Result<String, HistoryError> {
        let newest_first = self.entries.iter().rev();
        let mut others = newest_first.filter(|entry| entry.digest != in_force);
        let older = others.next().ok_or(HistoryError::NoOlder)?;
        Ok(older.digest.clone())
    }

    /// Writes the list as it will be with an entry more, beside the one that counts, and the note that
    /// a change has begun. After this nothing but renames and removals is left to do here.
    pub(super) fn begin(&self, note: &Note) -> Result<(), HistoryError> {
        self.prepare(&note.entry)?;
        let path = self.folder.join(NOTE);
        let written = serde_json::to_vec(note).map_err(io::Error::from);
        let written = written.and_then(|bytes| disk::replace(&path, &bytes));
        written.map_err(failed(&path, "written"))
    }

    /// The change is done: its list counts, its note goes.
    pub(super) fn finish(&mut self, entry: Entry) -> Result<(), HistoryError> {
        self.take_list(entry)?;
        self.forget_note()
    }

    /// The change of an earlier agent is done.
    pub(super) fn finish_again(&mut self, entry: Entry) -> Result<(), HistoryError> {
        let last = self.entries.last().map(|last| &last.digest);
        if last != Some(&entry.digest) {
            self.note(entry)?;
        }
        self.forget_note()
    }

    /// The change was taken back.
    pub(super) fn abandon(&self) -> Result<(), HistoryError> {
        remove(&self.folder.join(INDEX_NEW))?;
        self.forget_note()
    }

    /// Adds a set that came with no change of the folder.
    pub(super) fn note(&mut self, entry: Entry) -> Result<(), HistoryError> {
        self.prepare(&entry)?;
        self.take_list(entry)
    }

    /// The change that an agent had begun when it ended, where there is one.
    pub(super) fn begun(&self) -> Result<Option<Note>, HistoryError> {
        let path = self.folder.join(NOTE);
        disk::read_json(&path, INDEX_BYTES_MAX).map_err(failed(&path, "read"))
    }

    pub(super) fn forget_note(&self) -> Result<(), HistoryError> {
        remove(&self.folder.join(NOTE))?;
        disk::sync(&self.folder).map_err(failed(&self.folder, "synced"))
    }

    fn prepare(&self, entry: &Entry) -> Result<(), HistoryError> {
        let path = self.folder.join(INDEX_NEW);
        let bytes = serde_json::to_vec_pretty(&self.with(entry.clone())).map_err(io::Error::from);
        let written = bytes.and_then(|bytes| {
            disk::remove(&path)?;
            disk::write_new(&path, &bytes)
        });
        written.map_err(failed(&path, "written"))
    }

    fn take_list(&mut self, entry: Entry) -> Result<(), HistoryError> {
        let (new, index) = (self.folder.join(INDEX_NEW), self.folder.join(INDEX));
        fs::rename(new, &index).map_err(failed(&index, "replaced"))?;
        disk::sync(&self.folder).map_err(failed(&self.folder, "synced"))?;
        self.entries = self.with(entry);
        self.prune();
        Ok(())
    }

    fn with(&self, entry: Entry) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        entries.push(entry);
        let over = entries.len().saturating_sub(self.keep);
        entries.drain(..over);
        entries
    }

    /// Removes the sets that no entry names. One that stays costs room, and is tried again.
    fn prune(&self) {
        let named: BTreeSet<PathBuf> = self
            .entries
            .iter()
            .map(|entry| self.set_path(&entry.digest))
            .collect();
        let files = fs::read_dir(self.folder.join(SETS)).into_iter().flatten();
        for file in files.flatten().map(|file| file.path()) {
            if !named.contains(&file)
                && let Err(error) = disk::remove(&file)
            {
                tracing::warn!(path = %file.display(), %error, "old policy set not removed");
            }
        }
    }

    /// The sets that are whole, by age: what is known where their list is lost.
    fn found(&self) -> Result<Vec<Entry>, HistoryError> {
        let folder = self.folder.join(SETS);
        let files = fs::read_dir(&folder).map_err(failed(&folder, "read"))?;
        let mut found: Vec<(SystemTime, Entry)> = Vec::new();
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let Ok(bundle) = self.get(&name) else {
                continue;
            };
            let time = file.metadata().and_then(|metadata| metadata.modified());
            let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
            let entry = Entry {
                digest: name,
                time: Timestamp::from(time).to_string(),
                origin: Origin::Found,
                uid: None,
                tools: bundle.policies().count(),
                rules: 0,
            };
            found.push((time, entry));
        }
        found.sort_by_key(|(time, _)| *time);
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }

    fn set_path(&self, digest: &str) -> PathBuf {
        self.folder.join(SETS).join(digest)
    }
}

fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> HistoryError {
    move |source| HistoryError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

fn remove(path: &Path) -> Result<(), HistoryError> {
    disk::remove(path).map_err(failed(path, "removed"))
}

#[cfg(test)]
mod tests;
