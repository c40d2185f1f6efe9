//! `audit verify`: walks over all files of a journal and finds the first place that is not as it was
//! written. It changes nothing, and it can be asked while the agent writes.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Seek},
    path::{Path, PathBuf},
};

use super::{
    chain::{Head, Link, NOTHING},
    checkpoint::{self, Checkpoint, NoteError},
    error::Error,
    key::VerifierKey,
    place::{self, Closed, Place},
    recover::{last_number, sum},
    walk::{Break, Line, Lines, Walk},
};

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
    /// It is not whole.
    #[error(transparent)]
    Found(#[from] Finding),
}

/// Walks over the whole journal whose active file is `path`.
pub fn verify(path: &Path, against: &Against) -> Result<Whole, VerifyError> {
    let place = Place::new(path)?;
    let key = match &against.key {
        Some(key) => key.clone(),
        None => public_key(&place)?,
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
    let files = open_files(&place)?;
    let mut course = Course {
        key: &key,
        signed: &signed,
        walk: None,
        first: 0,
        plain: None,
        unfinished_bytes: 0,
    };
    let count = files.len();
    for (index, (path, file, closed)) in files.into_iter().enumerate() {
        let is_last = index.saturating_add(1) == count;
        course.file(&path, file, closed.filter(|_| !is_last), against.from)?;
    }
    course.finish(&place, count as u64)
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

fn public_key(place: &Place) -> Result<VerifierKey, Error> {
    let path = place.public_key();
    let text = place::read_small(&path)?.unwrap_or_default();
    VerifierKey::read(&text).map_err(|why| Error::Key { path, why })
}

/// A file, open, and for a closed one the number in its name.
type Opened = (PathBuf, File, Option<u64>);

/// Opens all files, the oldest first. What is open stays what it is when it gets another name.
pub(super) fn open_files(place: &Place) -> Result<Vec<Opened>, Error> {
    let active = place.active();
    let read = |source| Error::Read {
        path: active.clone(),
        source,
    };
    let mut closed = place.closed_all().map_err(read)?;
    for _ in 0..LISTINGS_MAX {
        let mut files = Vec::new();
        for Closed { first, path } in &closed {
            files.push((path.clone(), File::open(path).map_err(read)?, Some(*first)));
        }
        match File::open(&active) {
            Ok(file) => files.push((active.clone(), file, None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !files.is_empty() => {}
            Err(source) => return Err(read(source)),
        }
        let again = place.closed_all().map_err(read)?;
        if again == closed {
            return Ok(files);
        }
        closed = again;
    }
    Err(read(io::ErrorKind::ResourceBusy.into()))
}

/// The way over the files.
struct Course<'a> {
    key: &'a VerifierKey,
    signed: &'a [(Checkpoint, String)],
    walk: Option<Walk>,
    first: u64,
    /// A file without a chain that came first: what the chain has to say of it, and its last number.
    plain: Option<PlainFile>,
    unfinished_bytes: u64,
}

struct PlainFile {
    path: PathBuf,
    sum: (u64, super::chain::Hash),
    last: u64,
    told: bool,
}

impl Course<'_> {
    fn file(
        &mut self,
        path: &Path,
        mut file: File,
        closed: Option<u64>,
        from: Option<u64>,
    ) -> Result<(), VerifyError> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let mut lines = Lines::new(BufReader::new(file.try_clone().map_err(read)?));
        let mut at_start = true;
        while let Some(line) = lines.next().map_err(read)? {
            if at_start {
                at_start = false;
                if !self.begin(path, &line, closed, from)? {
                    file.rewind().map_err(read)?;
                    return Ok(self.take_plain(path)?);
                }
            }
            self.line(path, &line)?;
        }
        self.end_of_file(path, closed.is_some())
    }

    /// Looks at the first line of a file: whether a chain may begin or go on there. False where the
    /// file has none.
    fn begin(
        &mut self,
        path: &Path,
        line: &Line,
        closed: Option<u64>,
        from: Option<u64>,
    ) -> Result<bool, Finding> {
        let Some(link) = Link::read(&line.bytes) else {
            self.walk.get_or_insert_with(start);
            return Ok(true);
        };
        let misplaced = |what| Finding::Misplaced {
            path: path.to_owned(),
            line: 1,
            what,
        };
        if closed.is_some_and(|first| first != link.sequence) {
            return Err(misplaced("is not the record that the file is named after"));
        }
        if !link.is_chained() {
            return if self.walk.is_none() && self.plain.is_none() {
                Ok(false)
            } else {
                Err(Finding::Plain(path.to_owned()))
            };
        }
        if self.walk.is_some() {
            return if link.record == "segment" {
                Ok(true)
            } else {
                Err(misplaced("is not how a file begins"))
            };
        }
        let head = self.chain_start(path, &link, from)?;
        let open: BTreeSet<u64> = link.open.iter().copied().collect();
        self.first = head.next();
        self.walk = Some(Walk::new(head, open));
        Ok(true)
    }

    /// What the first record of all follows.
    fn chain_start(
        &mut self,
        path: &Path,
        link: &Link<'_>,
        from: Option<u64>,
    ) -> Result<Head, Finding> {
        let begins = |due| Finding::Begins {
            path: path.to_owned(),
            found: link.sequence,
            due,
        };
        if let Some(plain) = &mut self.plain {
            let head = Head {
                sequence: plain.last,
                hash: NOTHING,
            };
            let told = link.sha256().map(|hash| (link.bytes, hash));
            if link.record != "adopted" || told != Some(plain.sum) {
                return Err(Finding::PlainChanged(plain.path.clone()));
            }
            plain.told = true;
            return Ok(head);
        }
        if let Some(from) = from
            && from != link.sequence
        {
            return Err(begins(from));
        }
        if link.record == "adopted" && from.is_none() {
            return Err(Finding::Misplaced {
                path: path.to_owned(),
                line: 1,
                what: "goes on from an older file that is not there",
            });
        }
        if link.sequence == 1 || link.record == "adopted" {
            return Ok(Head {
                sequence: link.sequence.saturating_sub(1),
                hash: NOTHING,
            });
        }
        if from.is_none() || link.record != "segment" {
            return Err(begins(1));
        }
        let signed = self.segment_checkpoint(path, 1, link)?;
        Ok(Head {
            sequence: signed.sequence,
            hash: signed.hash,
        })
    }

    fn line(&mut self, path: &Path, line: &Line) -> Result<(), VerifyError> {
        let walk = self.walk.get_or_insert_with(start);
        let before = walk.head();
        let taken = walk.take(line).map_err(|place| Finding::Line {
            path: path.to_owned(),
            place,
        })?;
        let head = walk.head();
        let Some(link) = taken else {
            return Ok(());
        };
        let misplaced = |what| Finding::Misplaced {
            path: path.to_owned(),
            line: line.number,
            what,
        };
        if (link.record == "segment" || link.record == "adopted") && line.number != 1 {
            return Err(misplaced("belongs at the beginning of a file").into());
        }
        if link.record == "segment" {
            let signed = self.segment_checkpoint(path, line.number, &link)?;
            if (signed.sequence, signed.hash) != (before.sequence, before.hash) {
                return Err(misplaced("holds a checkpoint of something else").into());
            }
        }
        for (signed, which) in self.signed {
            if signed.sequence == head.sequence && signed.hash != head.hash {
                let (sequence, which) = (signed.sequence, which.clone());
                return Err(Finding::Replaced { sequence, which }.into());
            }
        }
        Ok(())
    }

    fn segment_checkpoint(
        &self,
        path: &Path,
        line: u64,
        link: &Link<'_>,
    ) -> Result<Checkpoint, Finding> {
        let note = link.checkpoint.as_deref().unwrap_or_default();
        checkpoint::open(note, self.key).map_err(|why| Finding::Checkpoint {
            which: format!("`{}`: the checkpoint in line {line}", path.display()),
            why,
        })
    }

    /// Nothing may be unfinished at the end of a closed file.
    fn end_of_file(&mut self, path: &Path, closed: bool) -> Result<(), VerifyError> {
        let signed = self.signed.iter().map(|(signed, _)| signed.sequence).max();
        let Some(walk) = &mut self.walk else {
            return Ok(());
        };
        let last = walk.head().sequence;
        if let Some(fragment) = walk.end() {
            if closed || fragment.ended {
                let (path, place) = (path.to_owned(), Walk::broken_by(&fragment));
                return Err(Finding::Line { path, place }.into());
            }
            self.unfinished_bytes = fragment.bytes.len() as u64;
        } else if !walk.is_ended() && (closed || signed >= Some(last)) {
            return Err(Finding::Misplaced {
                path: path.to_owned(),
                line: walk.records(),
                what: "is the last one and has lost its end",
            }
            .into());
        }
        Ok(())
    }

    fn take_plain(&mut self, path: &Path) -> Result<(), Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let last = last_number(path).map_err(read)?;
        self.plain = Some(PlainFile {
            path: path.to_owned(),
            sum: sum(path).map_err(read)?,
            last: last.unwrap_or_default(),
            told: false,
        });
        Ok(())
    }

    fn finish(self, place: &Place, files: u64) -> Result<Whole, VerifyError> {
        let path = place.active();
        if let Some(plain) = self.plain.as_ref().filter(|plain| !plain.told) {
            return Err(Finding::Plain(plain.path.clone()).into());
        }
        let Some(walk) = self.walk.filter(|walk| walk.records() > 0) else {
            return Err(Finding::Empty(path).into());
        };
        let last = walk.head().sequence;
        let signed = self.signed.iter().map(|(signed, _)| signed.sequence);
        let highest = signed.clone().max().unwrap_or_default();
        if highest > last {
            let signed = highest;
            return Err(Finding::Cut { path, last, signed }.into());
        }
        if let Some(lowest) = signed.min().filter(|lowest| *lowest < self.first) {
            let (found, due) = (self.first, lowest);
            return Err(Finding::Begins { path, found, due }.into());
        }
        Ok(Whole {
            key: self.key.name().to_owned(),
            files,
            first: self.first,
            last,
            signed: highest,
            unfinished_bytes: self.unfinished_bytes,
            open: walk.into_open().len() as u64,
            plain_bytes: self.plain.map_or(0, |plain| plain.sum.0),
        })
    }
}

fn start() -> Walk {
    Walk::new(Head::START, BTreeSet::new())
}
