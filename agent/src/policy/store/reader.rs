//! Where the files of a set come from: the disk, or a set that is held. What was read is kept beside
//! what it was read for, so that the bytes that were compiled are the bytes that are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::OFlag;

use super::{POLICY_FILE_BYTES_MAX, StoreError, lock_path, schema_file};
use crate::{
    ownership,
    policy::{
        bundle::{self, Bundle},
        lock::Lock,
    },
};

/// Where files are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// On the disk, whoever wrote them.
    Disk,
    /// On the disk; only what nobody but root and the agent could have written.
    Trusted,
    /// In a set.
    Held(&'a Bundle),
}

/// Reads files, and remembers them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    place: Place<'a>,
    read: Read,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) files: Bundle,
    /// The files that each policy file needs beside itself.
    pub(super) needs: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(place: Place<'a>) -> Self {
        Self {
            place,
            read: Read::default(),
        }
    }

    /// What was read so far.
    pub(super) fn into_read(self) -> Read {
        self.read
    }

    /// The text of a policy file.
    pub(super) fn policy(&mut self, path: &Path) -> Result<String, StoreError> {
        let text = self.text(path)?;
        let name = own_name(path);
        self.keep(&name, &name, text.as_bytes());
        Ok(text)
    }

    /// The lock file of a policy file, where there is one.
    pub(super) fn lock(&mut self, policy: &Path) -> Result<Option<Lock>, StoreError> {
        let path = lock_path(policy);
        let text = match self.text(&path) {
            Ok(text) => text,
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match Lock::parse(&text) {
            Ok(lock) => {
                self.keep(&own_name(policy), &own_name(&path), text.as_bytes());
                Ok(Some(lock))
            }
            Err(error) => Err(StoreError::Lock { path, error }),
        }
    }

    /// The bytes of a schema that a policy file names, or why not.
    pub(super) fn schema(&mut self, policy: &Path, name: &str) -> Result<Vec<u8>, String> {
        let kept_as = bundle::key(name);
        let bytes = match self.place {
            Place::Disk => schema_file::read(policy, name, false)?,
            Place::Trusted => schema_file::read(policy, name, true)?,
            Place::Held(set) => match kept_as.as_deref().and_then(|name| set.get(name)) {
                Some(bytes) => bytes.to_vec(),
                // A path of the host: as the host has it now.
                None if bundle::is_of_host(name) => schema_file::read(policy, name, true)?,
                None => return Err("it is not among the files of the set".to_owned()),
            },
        };
        match kept_as {
            Some(kept_as) => self.keep(&own_name(policy), &kept_as, &bytes),
            // Only what is kept must have a name that can be kept.
            None if matches!(self.place, Place::Disk) => {}
            None => {
                return Err(
                    "a schema has a path below the policy's folder, without `..` and hidden names, or an absolute one"
                        .to_owned(),
                );
            }
        }
        Ok(bytes)
    }

    fn keep(&mut self, policy: &str, name: &str, bytes: &[u8]) {
        // A name that can not be kept belongs to no set that is pushed or put in force.
        if self.read.files.insert(name, bytes.to_vec()).is_ok() && policy != name {
            let needs = self.read.needs.entry(policy.to_owned()).or_default();
            needs.insert(name.to_owned());
        }
    }

    fn text(&self, path: &Path) -> Result<String, StoreError> {
        let bytes = match self.place {
            Place::Disk => bytes_of(path, false)?,
            Place::Trusted => bytes_of(path, true)?,
            Place::Held(set) => held(set, path)?,
        };
        String::from_utf8(bytes).map_err(|error| StoreError::NotText {
            path: path.to_owned(),
            at: error.utf8_error().valid_up_to(),
        })
    }
}

fn held(set: &Bundle, path: &Path) -> Result<Vec<u8>, StoreError> {
    let bytes = path.to_str().and_then(|name| set.get(name));
    let Some(bytes) = bytes else {
        return Err(StoreError::Read {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        });
    };
    if bytes.len() as u64 > POLICY_FILE_BYTES_MAX {
        let path = path.to_owned();
        return Err(StoreError::TooLarge { path });
    }
    Ok(bytes.to_vec())
}

fn bytes_of(path: &Path, trusted: bool) -> Result<Vec<u8>, StoreError> {
    let read = |source| StoreError::Read {
        path: path.to_owned(),
        source,
    };
    // A FIFO or a device would hang or never end; opening a FIFO waits for its writer already.
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(read)?;
    if !file.metadata().map_err(read)?.is_file() {
        let path = path.to_owned();
        return Err(StoreError::NotAFile { path });
    }
    if trusted {
        ownership::file(path, &file).map_err(StoreError::Distrusted)?;
    }
    let mut bytes = Vec::new();
    let limit = POLICY_FILE_BYTES_MAX.saturating_add(1);
    let count = file.take(limit).read_to_end(&mut bytes).map_err(read)?;
    if u64::try_from(count).unwrap_or(u64::MAX) > POLICY_FILE_BYTES_MAX {
        let path = path.to_owned();
        return Err(StoreError::TooLarge { path });
    }
    Ok(bytes)
}

/// A policy or lock file lies at the top of its set.
fn own_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
