//! Daily quotas: counts that survive the agent. Each charge is one line appended to a file before the
//! call goes on; a count is lost with the host's power only, and then at most what the kernel had not
//! written yet.
//!
//! The file is written anew when it is read and when it has grown; a torn last line is one charge that
//! was never granted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    key::Key,
    table::{ENTRIES_MAX, Table},
};

/// First line of the file.
const HEAD: &str = "daily quotas 1\n";
/// Lines beyond twice what is live, after which the file is written anew.
const SLACK_LINES: usize = 16_384;
/// Bytes of a file that is read: more was not written by this.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why quotas can not be kept.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The file can not be read or written.
    #[error("daily quotas `{}`: can not be kept", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else. Nothing is granted on a guess.
    #[error(
        "daily quotas `{}`: line {line} is damaged\nhint: remove the file to begin the day anew",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// A day, from the first of 1970 (UTC), and its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Spent {
    day: u32,
    calls: u32,
}

/// The counts and their file.
#[derive(Debug)]
pub(super) struct Quotas {
    path: PathBuf,
    file: File,
    spent: Table<Spent>,
    lines: usize,
    /// What follows can not be trusted to be read again.
    broken: bool,
}

impl Quotas {
    /// Reads the file, or makes it, mode 0600.
    pub(super) fn open(path: &Path, today: u32) -> Result<Self, QuotaError> {
        let spent = read(path)?;
        let (file, lines) = write_anew(path, &spent, today)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            spent,
            lines,
            broken: false,
        })
    }

    /// Calls of this day so far.
    pub(super) fn calls(&self, key: &Key, today: u32) -> u32 {
        match self.spent.get(key) {
            // A clock that was set back gives nothing back.
            Some(spent) if spent.day >= today => spent.calls,
            _ => 0,
        }
    }

    /// Whether it has a count for a key, of whatever day.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.spent.get(key).is_some()
    }

    /// Whether so many new counts fit.
    pub(super) fn has_room(&mut self, more: usize, now: u64, today: u32) -> bool {
        self.spent.has_room(more, now, |spent| spent.day < today)
    }

    /// One more call for each key; none is counted where the file can not be written.
    pub(super) fn charge(&mut self, keys: &[Key], today: u32) -> Result<(), QuotaError> {
        if keys.is_empty() {
            return Ok(());
        }
        let live = self.spent.len();
        let most = live.saturating_mul(2).saturating_add(SLACK_LINES);
        if self.broken || self.lines > most {
            (self.file, self.lines) = write_anew(&self.path, &self.spent, today)?;
            self.broken = false;
        }
        let mut text = String::new();
        let mut next = Vec::with_capacity(keys.len());
        for key in keys {
            let calls = self.calls(key, today).saturating_add(1);
            let spent = Spent { day: today, calls };
            text.push_str(&line(key, spent));
            next.push((*key, spent));
        }
        if let Err(source) = self.file.write_all(text.as_bytes()) {
            self.broken = true;
            return Err(at(&self.path, source));
        }
        self.lines = self.lines.saturating_add(keys.len());
        for (key, spent) in next {
            self.spent.insert(key, spent);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.spent.len()
    }
}

/// Writes what counts into a new file that takes the old one's place; the file, and its lines.
fn write_anew(path: &Path, spent: &Table<Spent>, today: u32) -> Result<(File, usize), QuotaError> {
    let error = |source| at(path, source);
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(error)?;
    let live = spent.iter().filter(|(_, spent)| spent.day >= today);
    let live: Vec<String> = live.map(|(key, spent)| line(key, *spent)).collect();
    let text = format!("{HEAD}{}", live.concat());
    file.write_all(text.as_bytes()).map_err(error)?;
    file.sync_data().map_err(error)?;
    std::fs::rename(&beside, path).map_err(error)?;
    if let Some(folder) = path.parent() {
        let folder = File::open(folder).map_err(error)?;
        folder.sync_all().map_err(error)?;
    }
    Ok((file, live.len()))
}

fn at(path: &Path, source: io::Error) -> QuotaError {
    QuotaError::File {
        path: path.to_owned(),
        source,
    }
}

/// `key day calls check`, each in hexadecimal.
fn line(key: &Key, spent: Spent) -> String {
    let key = u128::from_be_bytes(key.0);
    let said = format!("{key:032x} {:08x} {:08x}", spent.day, spent.calls);
    let check = check(&said);
    format!("{said} {check}\n")
}

/// The first 32 bits of SHA-256: against damage, not against people, who could write what they like.
fn check(text: &str) -> String {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
}

fn read(path: &Path) -> Result<Table<Spent>, QuotaError> {
    let mut table = Table::new(ENTRIES_MAX);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(table),
        Err(source) => return Err(at(path, source)),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|source| at(path, source))?;
    let damaged = |line| QuotaError::Damaged {
        path: path.to_owned(),
        line,
    };
    let text = String::from_utf8(text).map_err(|_bytes| damaged(1))?;
    let Some(rest) = text.strip_prefix(HEAD) else {
        return Err(damaged(1));
    };
    for (index, text) in rest.split_inclusive('\n').enumerate() {
        // Without its end it was being written when the agent died: its call was not granted.
        let Some(text) = text.strip_suffix('\n') else {
            break;
        };
        let (key, spent) = parsed(text).ok_or_else(|| damaged(index.saturating_add(2)))?;
        table.insert(key, spent);
    }
    Ok(table)
}

fn parsed(text: &str) -> Option<(Key, Spent)> {
    let (said, sum) = text.rsplit_once(' ')?;
    if check(said) != sum {
        return None;
    }
    let mut words = said.split(' ');
    let key = u128::from_str_radix(words.next()?, 16).ok()?;
    let mut number = || u32::from_str_radix(words.next()?, 16).ok();
    let spent = Spent {
        day: number()?,
        calls: number()?,
    };
    Some((Key(key.to_be_bytes()), spent))
}
