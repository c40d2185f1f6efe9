//! From the files of an earlier agent to the end of their chain: what is read before anything is
//! written. Only the last file is walked; `audit verify` walks all of them.

#![expect(clippy::similar_names, reason = "a line holds a link")]

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use zeroize::Zeroizing;

use super::{
    chain::{Head, Link, NOTHING},
    checkpoint::{self, Checkpoint},
    end::{Start, Tail},
    error::Error,
    key::Key,
    place::{self, Closed, FILE_MODE, Place},
    plain::{self, Plain},
    segment::begin_segment,
    walk::{Lines, Walk},
};

/// The key file may be read by others: it is what checks.
const PUBLIC_MODE: u32 = 0o644;

/// What the files hold.
pub(super) struct Recovered {
    pub(super) start: Start,
    pub(super) plain: Option<Plain>,
}

/// Reads or makes the key; whether it was made. The file stays open and locked: it is what keeps a
/// second writer away.
pub(super) fn key(place: &Place) -> Result<(Key, File, bool), Error> {
    let path = place.key();
    let text = place::read_small(&path)?;
    let made = text.as_deref().is_none_or(str::is_empty);
    if made && place.checkpoint().exists() {
        // A new key would overwrite the public half of the one that is gone.
        return Err(Error::NoKey(path));
    }
    let bad = |why| Error::Key {
        path: path.clone(),
        why,
    };
    let (key, text) = match text.map(Zeroizing::new) {
        Some(text) if !made => (Key::read(&text).map_err(bad)?, text),
        _ => {
            let (key, text) = Key::generate().map_err(bad)?;
            place::replace(&path, text.as_bytes(), FILE_MODE)?;
            (key, text)
        }
    };
    let public = place.public_key();
    if place::read_small(&public)?.as_deref() != Some(&key.verifier().text()) {
        place::replace(&public, key.verifier().text().as_bytes(), PUBLIC_MODE)?;
    }
    let open = |source| Error::Open {
        path: path.clone(),
        source,
    };
    let lock = File::open(&path).map_err(open)?;
    match lock.try_lock() {
        // Another one that begins at the same moment may have put its own key here.
        Ok(())
            if lock.metadata().map_err(open)?.ino() != fs::metadata(&path).map_err(open)?.ino() =>
        {
            Err(Error::Busy(place.active()))
        }
        Ok(()) if place::read_small(&path)?.as_deref() != Some(text.as_str()) => {
            Err(Error::Busy(place.active()))
        }
        Ok(()) => Ok((key, lock, made)),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Busy(place.active())),
        Err(fs::TryLockError::Error(source)) => Err(open(source)),
    }
}

/// Finds the end of the chain, or where a new one begins.
pub(super) fn recover(place: &Place, key: &Key, key_is_new: bool) -> Result<Recovered, Error> {
    let active = place.active();
    let read = |source| Error::Read {
        path: active.clone(),
        source,
    };
    let checkpoint = last_checkpoint(place, key, key_is_new)?;
    let closed = place.closed_all().map_err(read)?;
    if let Some(last) = closed.last()
        && !active.try_exists().map_err(read)?
    {
        // Nothing is made in a folder that may be evidence.
        return after(place, key, last, checkpoint, key_is_new);
    }
    let file = open_active(&active)?;
    let size = file.metadata().map_err(read)?.len();
    let first = first_line(&active).map_err(read)?;
    let chained = first.as_deref().and_then(Link::read);
    match (chained, size, closed.last()) {
        (Some(link), _, _) if !link.is_chained() => {
            if checkpoint.is_some() || closed.iter().any(|closed| closed.first >= link.sequence) {
                // An older file in the place of a newer one.
                return Err(Error::Damaged(active));
            }
            plain::adopt(place, &active, link.sequence)
        }
        // A killed agent had closed a file and not begun the next, or begun nothing at all.
        (_, 0, Some(last)) => after(place, key, last, checkpoint, key_is_new),
        (_, 0, None) => match checkpoint {
            None => Ok(fresh(file)),
            Some(Checkpoint { sequence, .. }) => Err(Error::Cut {
                path: active,
                sequence,
            }),
        },
        (Some(_), _, _) if key_is_new => Err(Error::NoKey(place.key())),
        _ => go_on(file, &active, key, checkpoint),
    }
}

/// Before the first record.
pub(super) fn fresh(file: File) -> Recovered {
    Recovered {
        start: Start {
            file,
            head: Head::START,
            first: 1,
            size: 0,
            open: BTreeSet::new(),
            fragment: None,
        },
        plain: None,
    }
}

/// Opens or makes the active file, which is a regular one.
pub(super) fn open_active(path: &Path) -> Result<File, Error> {
    let open = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(FILE_MODE);
    // A pipe without a reader would wait for one.
    options.custom_flags(nix::libc::O_NONBLOCK);
    let file = options.open(path).map_err(open)?;
    if !file.metadata().map_err(open)?.is_file() {
        return Err(Error::NoFile(path.to_owned()));
    }
    Ok(file)
}

fn last_checkpoint(
    place: &Place,
    key: &Key,
    key_is_new: bool,
) -> Result<Option<Checkpoint>, Error> {
    let path = place.checkpoint();
    let Some(note) = place::read_small(&path)? else {
        return Ok(None);
    };
    if key_is_new {
        return Err(Error::NoKey(place.key()));
    }
    let opened = checkpoint::open(&note, key.verifier());
    opened
        .map(Some)
        .map_err(|why| Error::Checkpoint { path, why })
}

fn first_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut lines = Lines::new(BufReader::new(File::open(path)?));
    Ok(lines.next()?.map(|line| line.bytes))
}

/// Walks the last file, which has a chain.
fn go_on(
    mut file: File,
    path: &Path,
    key: &Key,
    checkpoint: Option<Checkpoint>,
) -> Result<Recovered, Error> {
    let (mut walk, first, begun) = walk_file(path, key, checkpoint)?;
    // Only what an agent writes when it begins comes before the first checkpoint.
    if checkpoint.is_none() && begun {
        return Err(Error::NoCheckpoint(path.to_owned()));
    }
    let records = walk.records();
    let fragment = walk.end().map(|fragment| Tail {
        bytes: fragment.bytes,
        ended: fragment.ended,
    });
    if records == 0 && fragment.as_ref().is_some_and(|tail| tail.ended) {
        return Err(Error::Damaged(path.to_owned()));
    }
    let write = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    if fragment.is_none() && !walk.is_ended() {
        // Nothing but its end was missing.
        file.write_all(b"\n").map_err(write)?;
    }
    Ok(Recovered {
        start: Start {
            head: walk.head(),
            first,
            size: file.metadata().map_err(write)?.len(),
            open: walk.into_open(),
            fragment,
            file,
        },
        plain: None,
    })
}

/// Walks one file; also tells the number of its first record, and whether anything was recorded in it
/// beside what an agent writes when it begins.
fn walk_file(
    path: &Path,
    key: &Key,
    checkpoint: Option<Checkpoint>,
) -> Result<(Walk, u64, bool), Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let broken = |place| Error::Broken {
        path: path.to_owned(),
        place,
    };
    let mut lines = Lines::new(BufReader::new(File::open(path).map_err(read)?));
    let mut walk = None;
    let mut first = 1;
    let mut begun = false;
    while let Some(line) = lines.next().map_err(read)? {
        let walk = if let Some(walk) = &mut walk {
            walk
        } else {
            let (fresh, number) = begin(&line.bytes, path, key)?;
            first = number;
            walk.insert(fresh)
        };
        let link = walk.take(&line).map_err(broken)?;
        begun |=
            link.is_some_and(|link| !matches!(link.record.as_ref(), "opened" | "adopted" | "torn"));
        let head = walk.head();
        if let Some(Checkpoint { sequence, hash }) = checkpoint
            && sequence == head.sequence
            && hash != head.hash
        {
            return Err(Error::Cut {
                path: path.to_owned(),
                sequence,
            });
        }
    }
    let walk = walk.unwrap_or_else(|| Walk::new(Head::START, BTreeSet::new()));
    let last = walk.head().sequence;
    match checkpoint {
        Some(Checkpoint { sequence, .. }) if sequence > last => Err(Error::Cut {
            path: path.to_owned(),
            sequence,
        }),
        _ => Ok((walk, first, begun)),
    }
}

/// Where the walk over a file begins, by its first line: at the start of all, or after the record
/// whose checkpoint the line holds.
fn begin(line: &[u8], path: &Path, key: &Key) -> Result<(Walk, u64), Error> {
    let start = (Walk::new(Head::START, BTreeSet::new()), 1);
    let Some(link) = Link::read(line) else {
        return Ok(start);
    };
    let before = link.sequence.saturating_sub(1);
    let open = link.open.iter().copied().collect();
    if link.record == "adopted" {
        let head = Head {
            sequence: before,
            hash: NOTHING,
        };
        return Ok((Walk::new(head, BTreeSet::new()), link.sequence));
    }
    let Some(note) = link.checkpoint.as_deref() else {
        return Ok(start);
    };
    let signed = checkpoint::open(note, key.verifier()).map_err(|why| Error::Checkpoint {
        path: path.to_owned(),
        why,
    })?;
    let head = Head {
        sequence: signed.sequence,
        hash: signed.hash,
    };
    Ok((Walk::new(head, open), link.sequence))
}

/// The active file is not there: the next one goes on from the last closed one.
fn after(
    place: &Place,
    key: &Key,
    last: &Closed,
    checkpoint: Option<Checkpoint>,
    key_is_new: bool,
) -> Result<Recovered, Error> {
    let read = |source| Error::Read {
        path: last.path.clone(),
        source,
    };
    let first = first_line(&last.path).map_err(read)?;
    if let Some(link) = first.as_deref().and_then(Link::read)
        && !link.is_chained()
    {
        return plain::take_over(place, &last.path, checkpoint);
    }
    if key_is_new {
        return Err(Error::NoKey(place.key()));
    }
    if checkpoint.is_none() {
        // A file is closed long after the first checkpoint was written.
        return Err(Error::NoCheckpoint(place.active()));
    }
    let (mut walk, _, _) = walk_file(&last.path, key, checkpoint)?;
    if let Some(fragment) = walk.end() {
        return Err(Error::Broken {
            path: last.path.clone(),
            place: Walk::broken_by(&fragment),
        });
    }
    let head = walk.head();
    let open = walk.into_open();
    let (file, line) = begin_segment(place, key, head, &open)?;
    let active = place.active();
    fs::rename(place.coming(), &active).map_err(|source| Error::Write {
        path: active,
        source,
    })?;
    let mut walk = Walk::new(head, open);
    let first = head.next();
    let size = line.len() as u64;
    advance(&mut walk, line);
    Ok(Recovered {
        start: Start {
            file,
            head: walk.head(),
            first,
            size,
            open: walk.into_open(),
            fragment: None,
        },
        plain: None,
    })
}

/// Takes a line of our own making.
fn advance(walk: &mut Walk, mut line: Vec<u8>) {
    line.pop();
    let line = super::walk::Line {
        bytes: line,
        ended: true,
        number: 1,
        offset: 0,
    };
    // It follows the head that it was made for.
    drop(walk.take(&line));
}
