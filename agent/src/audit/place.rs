//! Where a journal lies: the file that is written, and beside it, named after it, the closed segments,
//! the key's two halves and the last checkpoint. Only this file knows these names.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::error::Error;

pub(super) const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// A checkpoint that is kept elsewhere is there for others.
const KEPT_MODE: u32 = 0o644;
/// Digits of the first record's number in the name of a closed segment: names sort as numbers do.
const DIGITS: usize = 20;
/// Largest file that is read as a whole (key, checkpoint), bytes.
const SMALL_BYTES_MAX: u64 = 16 << 10;

/// The files of one journal.
#[derive(Clone, Debug)]
pub(super) struct Place {
    folder: PathBuf,
    /// Of the active file: before and after its last dot.
    stem: OsString,
    extension: Option<OsString>,
}

/// A closed segment, by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Closed {
    /// Number of its first record.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

impl Place {
    /// Of a journal whose active file is this one.
    pub(super) fn new(active: &Path) -> Result<Self, Error> {
        let folder = active.parent().unwrap_or(Path::new(""));
        let stem = active.file_stem().ok_or_else(|| Error::Open {
            path: active.to_owned(),
            source: io::ErrorKind::InvalidFilename.into(),
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            stem: stem.to_owned(),
            extension: active.extension().map(ToOwned::to_owned),
        })
    }

    /// The folder, to be read or synced.
    pub(super) fn folder(&self) -> &Path {
        if self.folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &self.folder
        }
    }

    pub(super) fn make_folder(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE);
        builder.create(self.folder())
    }

    /// The file that is written.
    pub(super) fn active(&self) -> PathBuf {
        self.named("", true)
    }

    /// The next active file while it is made.
    pub(super) fn coming(&self) -> PathBuf {
        self.named(".next", false)
    }

    pub(super) fn key(&self) -> PathBuf {
        self.named(".key", false)
    }

    pub(super) fn public_key(&self) -> PathBuf {
        self.named(".pub", false)
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.named(".checkpoint", false)
    }

    /// The name of a segment, once it is closed.
    pub(super) fn closed(&self, first: u64) -> PathBuf {
        self.named(&format!(".{first:0DIGITS$}"), true)
    }

    /// The closed segments, the oldest first.
    pub(super) fn closed_all(&self) -> io::Result<Vec<Closed>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let name = entry?.file_name();
            if let Some(first) = name.to_str().and_then(|name| self.first_of(name)) {
                found.push(Closed {
                    first,
                    path: self.folder.join(name),
                });
            }
        }
        found.sort();
        Ok(found)
    }

    fn first_of(&self, name: &str) -> Option<u64> {
        let rest = name.strip_prefix(self.stem.to_str()?)?.strip_prefix('.')?;
        let digits = match &self.extension {
            None => rest,
            Some(extension) => rest.strip_suffix(extension.to_str()?)?.strip_suffix('.')?,
        };
        let shaped = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        shaped.then(|| digits.parse().ok()).flatten()
    }

    fn named(&self, infix: &str, extended: bool) -> PathBuf {
        let mut name = self.stem.clone();
        name.push(infix);
        if let Some(extension) = self.extension.as_ref().filter(|_| extended) {
            name.push(".");
            name.push(extension);
        }
        self.folder.join(name)
    }
}

/// Reads a small file; nothing where there is none. What is no text becomes text that fits nothing.
pub(super) fn read_small(path: &Path) -> Result<Option<String>, Error> {
    let read = || -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(SMALL_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Puts a small file in the place of another, on the disk before it takes the name: whatever happens,
/// one of the two is there, whole.
pub(super) fn replace(path: &Path, text: &[u8], mode: u32) -> Result<(), Error> {
    let put = || -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&new)?;
        file.write_all(text)?;
        file.sync_data()?;
        fs::rename(&new, path)
    };
    put().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Puts a checkpoint in the place of the one before, for whoever may read it there.
pub fn keep(path: &Path, note: &str) -> Result<(), Error> {
    replace(path, note.as_bytes(), KEPT_MODE)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    sync_folder(folder).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Makes names of a folder survive a power loss.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
