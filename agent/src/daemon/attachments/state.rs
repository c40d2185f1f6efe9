//! What is attached, on the disk: so that the next agent takes it up again, and knows which session a
//! fence that stands belongs to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Target;
use crate::{
    config::Instance,
    ownership::{self, Distrust},
};

/// Its name in the state folder.
const FILE: &str = "attachments.json";
const FRESH: &str = ".attachments.json.new";
const MODE: u32 = 0o600;
/// Version of the form.
const VERSION: u32 = 1;
/// Bytes that are read.
const BYTES_MAX: u64 = 4 << 20;

/// One attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::daemon) struct Kept {
    pub(in crate::daemon) target: Target,
    pub(in crate::daemon) tool: String,
    /// Processes may keep what no fence holds.
    pub(in crate::daemon) weak: bool,
    /// A policy's `[match]` named it, nobody asked.
    pub(in crate::daemon) matched: bool,
    /// The session of its cgroup, where it had one.
    pub(in crate::daemon) fence: Option<Fence>,
}

/// The fence that stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::daemon) struct Fence {
    pub(in crate::daemon) session: u64,
    pub(in crate::daemon) cgroup: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    attachments: Vec<Kept>,
}

/// What is attached can not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody else could have written it.
    #[error(transparent)]
    Distrusted(#[from] Distrust),
    /// It can not be read or written.
    #[error("attachments `{}`: can not be {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It says what this agent does not understand.
    #[error(
        "attachments `{}`: {why}\nhint: what it names stays fenced; `stockade remove` takes every fence of the instance away", path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What is attached; nothing where there never was a file.
pub(in crate::daemon) fn read(instance: &Instance) -> Result<Vec<Kept>, StateError> {
    let path = instance.state_folder().join(FILE);
    let failed = |source| StateError::File {
        path: path.clone(),
        action: "read",
        source,
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(failed)?,
    };
    ownership::file(&path, &file)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let odd = |why: String| StateError::Form {
        path: path.clone(),
        why,
    };
    let form: Form = serde_json::from_slice(&bytes).map_err(|error| odd(error.to_string()))?;
    if form.version != VERSION {
        return Err(odd(format!("version {} is unknown", form.version)));
    }
    Ok(form.attachments)
}

/// Nothing is attached any more.
pub(in crate::daemon) fn forget(instance: &Instance) -> Result<(), StateError> {
    write(instance, Vec::new())
}

/// Writes what is attached, whole or not at all.
pub(super) fn write(instance: &Instance, attachments: Vec<Kept>) -> Result<(), StateError> {
    let folder = instance.state_folder();
    let path = folder.join(FILE);
    let written = || -> io::Result<()> {
        if attachments.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
        let form = Form {
            version: VERSION,
            attachments,
        };
        let fresh = folder.join(FRESH);
        put(&fresh, &serde_json::to_vec_pretty(&form)?)?;
        fs::rename(&fresh, &path)?;
        File::open(&folder)?.sync_all()
    };
    written().map_err(|source| StateError::File {
        path: path.clone(),
        action: "written",
        source,
    })
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(MODE);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
