//! Files that hold keys and what was revoked: read only where nobody but their owner could have
//! written or read them, written whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::libc;

use crate::secret::Secret;

const MODE: u32 = 0o600;
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// A private file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can not be read.
    #[error("`{}`: can not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can not be written.
    #[error("`{}`: can not be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or write it, somebody else owns it, or it is no regular file.
    #[error("`{0}`: not private\nhint: chown it to the user of this process, chmod 600")]
    Open(PathBuf),
    /// Larger than any such file is.
    #[error("`{path}`: larger than {max} bytes")]
    Size {
        /// The file.
        path: PathBuf,
        /// The bound, bytes.
        max: usize,
    },
}

/// Reads a file of this user's alone; none where there is none.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Option<Secret<Vec<u8>>>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    // A link or a pipe in its place must neither be followed nor be waited for.
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let ours = metadata.is_file()
        && metadata.uid() == nix::unistd::geteuid().as_raw()
        && metadata.mode() & OTHERS == 0;
    if !ours {
        return Err(Error::Open(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let bound = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
    let bytes = Secret::new(bytes);
    if bytes.expose().len() > bytes_max {
        return Err(Error::Size {
            path: path.to_owned(),
            max: bytes_max,
        });
    }
    Ok(Some(bytes))
}

/// Puts a file in the place of what was there: after a crash there is the old one or the new one.
/// On the disk when it returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    // What a crash left behind. The folder is ours alone, so nobody else writes there.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.and_then(|()| sync_folder(path)).map_err(failed)
}

/// Makes a file that is not there yet.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = write_new(path, bytes).and_then(|()| sync_folder(path));
    written.map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(MODE);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
