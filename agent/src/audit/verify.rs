//! `audit verify`: walks over all files of a journal and finds the first place that is not as it was
//! written. It changes nothing, and it can be asked while the agent writes.

mod course;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    vec,
};

use super::{
    checkpoint::{self, Checkpoint, NoteError},
    error::Error,
    key::VerifierKey,
    place::{self, Closed, Place},
    walk::Break,
};
use course::Course;

/// How often the files are listed again because one was closed meanwhile.
const LISTINGS_MAX: usize = 8;

/// What a journal is held against.
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// The key, as somebody kept it; otherwise the one that lies beside the journal.
    pub key: Option<VerifierKey>,
    /// The number of the first record, where earlier files were taken away on purpose.
    pub from: Option<u64>,
    /// Checkpoints that somebody kept elsewhere.
    pub checkpoints: Vec<String>,
}

/// A journal that is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whole {
    /// Name of the key that signed.
    pub key: String,
    /// Files.
    pub files: u64,
    /// Number of the first record of the chain.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// Number of the last that is signed.
    pub signed: u64,
    /// Bytes of a record that is being written, or was when the agent was killed.
    pub unfinished_bytes: u64,
    /// Things that have begun and not ended.
    pub open: u64,
    /// Bytes of an older file without a chain that this journal goes on from, unchanged since then.
    pub plain_bytes: u64,
}

/// The first thing that is wrong with a journal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
    /// A line.
    #[error("`{}`: {place}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        place: Break,
    },
    /// A line that is a record, but not one that stands there.
    #[error("`{}`: line {line} {what}", path.display())]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The journal begins too late.
    #[error("`{}`: begins with record {found}, not {due}: earlier records are missing", path.display())]
    Begins {
        /// The file.
        path: PathBuf,
        /// Its first record.
        found: u64,
        /// What was due.
        due: u64,
    },
    /// The journal ends too early.
    #[error("`{}`: ends with record {last}, but record {signed} was signed: records were cut off", path.display())]
    Cut {
        /// The active file.
        path: PathBuf,
        /// The last record.
        last: u64,
        /// The record of the checkpoint.
        signed: u64,
    },
    /// A signed record is another one now.
    #[error(
        "record {sequence} is not the one that was signed: the journal or {which} was replaced"
    )]
    Replaced {
        /// The record.
        sequence: u64,
        /// Which checkpoint says so.
        which: String,
    },
    /// A checkpoint is none.
    #[error("{which} {why}")]
    Checkpoint {
        /// Which.
        which: String,
        /// Why.
        why: NoteError,
    },
    /// The checkpoint beside the journal is gone.
    #[error("`{}`: is not there", .0.display())]
    NoCheckpoint(PathBuf),
    /// A file without a chain stands where none may.
    #[error("`{}`: has no chain", .0.display())]
    Plain(PathBuf),
    /// The file without a chain is not as it was when the chain began.
    #[error("`{}`: was changed since the journal went on from it", .0.display())]
    PlainChanged(PathBuf),
    /// There are no records.
    #[error("`{}`: holds no record", .0.display())]
    Empty(PathBuf),
}

/// A journal that can not be read, or is not whole.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It can not be read.
    #[error(transparent)]
    Unreadable(#[from] Error),
    /// Nothing of it is there.
    #[error(
        "journal `{}`: there is none yet\n\
         hint: the agent makes it when it starts; `--file` names another",
        .0.display()
    )]
    NoJournal(PathBuf),
    /// The key beside it is gone, and none was given.
    #[error("key `{}`: is not there\nhint: `--key FILE`, the copy that was kept", .0.display())]
    NoKey(PathBuf),
    /// It is not whole.
    #[error(transparent)]
    Found(#[from] Finding),
}

/// Walks over the whole journal whose active file is `path`.
pub fn verify(path: &Path, against: &Against) -> Result<Whole, VerifyError> {
    let place = Place::new(path)?;
    let key = match &against.key {
        Some(key) => key.clone(),
        None => public_key(&place, against)?,
    };
    // Before the files: what it says must be in them by then.
    let mut signed = vec![last_checkpoint(&place, &key)?];
    for (note, which) in against.checkpoints.iter().zip(1_u64..) {
        let which = format!("checkpoint {which} that was kept");
        match checkpoint::open(note, &key) {
            Ok(checkpoint) => signed.push((checkpoint, which)),
            Err(why) => return Err(Finding::Checkpoint { which, why }.into()),
        }
    }
    let mut course = Course::new(&key, &signed);
    let mut count = 0_u64;
    for opened in files(&place)? {
        let (path, file, closed) = opened?;
        course.file(&path, file, closed, against.from)?;
        count = count.saturating_add(1);
    }
    course.finish(&place, count)
}

/// The whole of a note, as it lies beside the journal.
fn last_checkpoint(place: &Place, key: &VerifierKey) -> Result<(Checkpoint, String), VerifyError> {
    let path = place.checkpoint();
    let Some(note) = place::read_small(&path)? else {
        return Err(Finding::NoCheckpoint(path).into());
    };
    let which = format!("checkpoint `{}`", path.display());
    match checkpoint::open(&note, key) {
        Ok(checkpoint) => Ok((checkpoint, which)),
        Err(why) => Err(Finding::Checkpoint { which, why }.into()),
    }
}

fn public_key(place: &Place, against: &Against) -> Result<VerifierKey, VerifyError> {
    let path = place.public_key();
    match place::read_small(&path)? {
        Some(text) => Ok(VerifierKey::read(&text).map_err(|why| Error::Key { path, why })?),
        None if was_never(place, against)? => Err(VerifyError::NoJournal(place.active())),
        None => Err(VerifyError::NoKey(path)),
    }
}

/// Whether nothing says that there ever was a journal: one that was removed must not look like none.
fn was_never(place: &Place, against: &Against) -> Result<bool, Error> {
    let read = |source| Error::Read {
        path: place.active(),
        source,
    };
    for path in [place.active(), place.key(), place.checkpoint()] {
        if path.try_exists().map_err(read)? {
            return Ok(false);
        }
    }
    let closed = match place.closed_all() {
        Ok(closed) => closed,
        // The folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(read(source)),
    };
    Ok(closed.is_empty() && against.checkpoints.is_empty())
}

/// A file, open; for one that can not grow any more also the number in its name.
type Opened = (PathBuf, File, Option<u64>);

/// The files of a journal at one moment, the oldest first. Only the last is held open: it may get
/// another name, and closed ones, of which there are thousands, keep theirs.
pub(super) struct Files {
    closed: vec::IntoIter<Closed>,
    last: Option<(PathBuf, File)>,
}

impl Iterator for Files {
    type Item = Result<Opened, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(Closed { first, path }) = self.closed.next() else {
            return self.last.take().map(|(path, file)| Ok((path, file, None)));
        };
        Some(match File::open(&path) {
            Ok(file) => Ok((path, file, Some(first))),
            Err(source) => Err(Error::Read { path, source }),
        })
    }
}

/// Lists all files and opens the last one.
pub(super) fn files(place: &Place) -> Result<Files, Error> {
    let active = place.active();
    let read = |source| Error::Read {
        path: active.clone(),
        source,
    };
    let mut listed = place.closed_all().map_err(read)?;
    for _ in 0..LISTINGS_MAX {
        let mut closed = listed.clone();
        let last = match File::open(&active) {
            Ok(file) => Some((active.clone(), file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The agent is about to begin the next file, or did not live to.
                let Some(Closed { path, .. }) = closed.pop() else {
                    return Err(read(error));
                };
                match File::open(&path) {
                    Ok(file) => Some((path, file)),
                    // The next file could not be begun, so this one has its old name again.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(source) => return Err(Error::Read { path, source }),
                }
            }
            Err(source) => return Err(read(source)),
        };
        let again = place.closed_all().map_err(read)?;
        if let Some(last) = last.filter(|_| again == listed) {
            let (closed, last) = (closed.into_iter(), Some(last));
            return Ok(Files { closed, last });
        }
        listed = again;
    }
    Err(read(io::ErrorKind::ResourceBusy.into()))
}
