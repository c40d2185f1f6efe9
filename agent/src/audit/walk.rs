//! A walk along the chain, line by line: the one place that knows which lines are in order. The agent
//! walks when it opens its journal, `audit verify` walks over all of it.

#![expect(clippy::similar_names, reason = "a line holds a link")]

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
};

use super::{
    chain::{Head, Link, Step, Unlinked, hash},
    journal::RECORD_BYTES_MAX,
};

/// Longest line, bytes: a `segment` record holds a number for each thing that runs.
const LINE_BYTES_MAX: usize = 8 << 20;
/// Most bytes between two records that were never finished.
const FRAGMENT_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;

/// One line of a file.
#[derive(Debug)]
pub(super) struct Line {
    /// Without its end.
    pub(super) bytes: Vec<u8>,
    /// Whether its end is there.
    pub(super) ended: bool,
    /// Counted from 1.
    pub(super) number: u64,
    /// Bytes of the file before it.
    pub(super) offset: u64,
}

/// Lines of a file, each bounded.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            offset: 0,
        }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64;
        let read = io::Read::take(&mut self.reader, limit).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        let ended = bytes.last() == Some(&b'\n');
        if ended {
            bytes.pop();
        }
        self.number = self.number.saturating_add(1);
        let offset = self.offset;
        self.offset = offset.saturating_add(read);
        Ok(Some(Line {
            bytes,
            ended,
            number: self.number,
            offset,
        }))
    }
}

/// How far the walk has come.
#[derive(Debug)]
pub(super) struct Walk {
    head: Head,
    open: BTreeSet<u64>,
    /// Bytes after the last record that belong to none, and where they begin.
    fragment: Option<Fragment>,
    records: u64,
    ended: bool,
}

/// Bytes that are no record: what was being written when the agent was killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fragment {
    /// All of them, with the ends of lines between them, without the last.
    pub(super) bytes: Vec<u8>,
    /// Whether an end of line follows.
    pub(super) ended: bool,
    /// Line where they begin.
    pub(super) line: u64,
    /// Bytes of the file before them.
    pub(super) offset: u64,
    /// What is wrong with their first line.
    why: Unlinked,
}

/// The first place where the chain is broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} (byte {offset}) {why}")]
pub struct Break {
    /// Line of the file, counted from 1.
    pub line: u64,
    /// Bytes of the file before it.
    pub offset: u64,
    /// What is wrong.
    pub why: Wrong,
}

/// What can be wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// It is not the next record.
    #[error(transparent)]
    Unlinked(#[from] Unlinked),
    /// It tells of an unfinished record that is not there, or of another one.
    #[error("tells of an unfinished record before it that is not there as it was")]
    Torn,
}

impl Walk {
    /// From after that record, with things that had begun by then.
    pub(super) fn new(head: Head, open: BTreeSet<u64>) -> Self {
        Self {
            head,
            open,
            fragment: None,
            records: 0,
            ended: true,
        }
    }

    /// The last record.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// How many records there were.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Takes one line; tells what it is where it is a record.
    pub(super) fn take<'l>(&mut self, line: &'l Line) -> Result<Option<Link<'l>>, Break> {
        let link = Link::read(&line.bytes).ok_or(Unlinked::NoRecord);
        let link = link.and_then(|link| link.follows(self.head).map(|()| link));
        match link {
            Ok(link) => {
                self.mended(line, &link)?;
                self.ended = line.ended;
                self.step(&link, &line.bytes);
                Ok(Some(link))
            }
            Err(why) => {
                self.unlinked(line, why)?;
                Ok(None)
            }
        }
    }

    /// Whether the last record has its end of line.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Ends the walk within one file: what was left unfinished there.
    pub(super) fn end(&mut self) -> Option<Fragment> {
        self.fragment.take()
    }

    /// Ends the walk: what has begun and not ended.
    pub(super) fn into_open(self) -> BTreeSet<u64> {
        self.open
    }

    /// Where the fragment lies, as an error.
    pub(super) fn broken_by(fragment: &Fragment) -> Break {
        Break {
            line: fragment.line,
            offset: fragment.offset,
            why: Wrong::Unlinked(fragment.why.clone()),
        }
    }

    fn step(&mut self, link: &Link<'_>, line: &[u8]) {
        self.head = Head {
            sequence: link.sequence,
            hash: hash(line),
        };
        self.records = self.records.saturating_add(1);
        match link.step() {
            Step::Begins => drop(self.open.insert(link.sequence)),
            Step::Ends(begun) => drop(self.open.remove(&begun)),
            Step::Tells => {}
        }
    }

    /// A `torn` record tells of the bytes before it, and of them alone; all other records follow
    /// records.
    fn mended(&mut self, line: &Line, link: &Link<'_>) -> Result<(), Break> {
        let fragment = self.fragment.take();
        let torn = link.record == "torn";
        if let Some(fragment) = fragment.as_ref().filter(|_| !torn) {
            return Err(Self::broken_by(fragment));
        }
        let found = fragment.map(|fragment| (fragment.bytes.len() as u64, hash(&fragment.bytes)));
        let told = link.sha256().map(|hash| (link.bytes, hash));
        if torn && (found.is_none() || found != told) {
            return Err(Break {
                line: line.number,
                offset: line.offset,
                why: Wrong::Torn,
            });
        }
        Ok(())
    }

    fn unlinked(&mut self, line: &Line, why: Unlinked) -> Result<(), Break> {
        let fragment = self.fragment.get_or_insert_with(|| Fragment {
            bytes: Vec::new(),
            ended: false,
            line: line.number,
            offset: line.offset,
            why,
        });
        if line.number > fragment.line {
            fragment.bytes.push(b'\n');
        }
        fragment.bytes.extend_from_slice(&line.bytes);
        fragment.ended = line.ended;
        if fragment.bytes.len() > FRAGMENT_BYTES_MAX {
            return Err(Self::broken_by(fragment));
        }
        Ok(())
    }
}
