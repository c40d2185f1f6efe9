//! The way over the files of a journal, the oldest first: where each may begin, what each line must
//! be, and how each must end.

#![expect(clippy::similar_names, reason = "a line holds a link")]

use std::{
    collections::BTreeSet,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use super::{Finding, VerifyError, Whole};
use crate::audit::{
    chain::{Hash, Head, Link, NOTHING},
    checkpoint::{self, Checkpoint},
    error::Error,
    key::VerifierKey,
    place::Place,
    plain::{last_number, sum},
    walk::{Line, Lines, Walk},
};

/// The way over the files.
pub(super) struct Course<'a> {
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
    sum: (u64, Hash),
    last: u64,
    told: bool,
}

impl<'a> Course<'a> {
    pub(super) fn new(key: &'a VerifierKey, signed: &'a [(Checkpoint, String)]) -> Self {
        Self {
            key,
            signed,
            walk: None,
            first: 0,
            plain: None,
            unfinished_bytes: 0,
        }
    }

    /// Goes over one file; `closed` is the number in its name, where it is closed.
    pub(super) fn file(
        &mut self,
        path: &Path,
        file: File,
        closed: Option<u64>,
        from: Option<u64>,
    ) -> Result<(), VerifyError> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let mut lines = Lines::new(BufReader::new(file));
        let mut at_start = true;
        while let Some(line) = lines.next().map_err(read)? {
            if at_start {
                at_start = false;
                if !self.begin(path, &line, closed, from)? {
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

    /// What the journal is, where all of it is whole.
    pub(super) fn finish(self, place: &Place, files: u64) -> Result<Whole, VerifyError> {
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
