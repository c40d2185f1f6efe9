//! How the store's file is opened: once by its path, and again by the same descriptor. After a failed write
//! redb refuses all that follows until its file is opened anew (`StorageError::PreviousIo`).

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path};

use redb::{Database, backends::FileBackend};

use super::Error;

const CACHE_BYTES: usize = 1 << 20;
const FILE_MODE: u32 = 0o600;

/// Opens the database, as often as it is called. Two at once there can not be.
pub(super) type Opening = Box<dyn Fn() -> Result<Database, Error> + Send>;

/// Opens or makes the file. Whoever opens it again opens this one, whatever has its name by then: in an
/// empty one every call would run once more.
pub(super) fn of(path: &Path) -> Result<Opening, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(FILE_MODE).open(path);
    let file = file.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let path = path.to_owned();
    let again = move || {
        file.try_clone().map_err(|source| Error::File {
            path: path.clone(),
            source,
        })
    };
    Ok(Box::new(move || database(FileBackend::new(again()?)?)))
}

/// The database in what holds its bytes.
pub(super) fn database(backend: impl redb::StorageBackend) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    Ok(builder.create_with_backend(backend)?)
}
