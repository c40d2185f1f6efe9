//! The files and folders of cgroups.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use common::id::CgroupId;

use crate::kernel::error::Error;

/// Each session cgroup below a parent, with all cgroups below it. Cgroups that go while we look are
/// left out.
pub(in crate::kernel) fn descendants(
    parent: &Path,
) -> Result<Vec<(CgroupId, Vec<CgroupId>)>, Error> {
    let mut all = Vec::new();
    for path in children(parent).map_err(|e| failed(parent, "reading", e))? {
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let mut below = Vec::new();
        collect_below(&path, &mut below);
        if !below.is_empty() {
            all.push((CgroupId(metadata.ino()), below));
        }
    }
    Ok(all)
}

/// All cgroups below one. Those that go while we look are left out.
pub(in crate::kernel) fn below(path: &Path) -> Vec<CgroupId> {
    let mut below = Vec::new();
    collect_below(path, &mut below);
    below
}

fn collect_below(path: &Path, below: &mut Vec<CgroupId>) {
    for child in children(path).unwrap_or_default() {
        if let Ok(metadata) = fs::metadata(&child) {
            below.push(CgroupId(metadata.ino()));
            collect_below(&child, below);
        }
    }
}

fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    // A cgroup's folder has two links, and one more for each child: most have none.
    if fs::metadata(path)?.nlink() <= 2 {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(path)?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}

pub(super) fn words(path: &Path) -> Result<Vec<String>, Error> {
    let text = fs::read_to_string(path).map_err(|e| failed(path, "reading", e))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

pub(super) fn make(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed(path, "making", error))
        }
        _ => Ok(()),
    }
}

pub(super) fn set(path: &Path, value: &str) -> Result<(), Error> {
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|e| failed(path, "writing", e))
}

pub(super) fn set_where_present(path: &Path, value: &str) -> Result<(), Error> {
    if path.exists() {
        return set(path, value);
    }
    Ok(())
}

/// Removes a cgroup with all below it, deepest first. One that is gone is no error.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, "reading", error)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| failed(path, "reading", e))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    remove_empty(path)
}

pub(super) fn remove_empty(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "removing", error))
        }
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Cgroup {
        path: path.to_owned(),
        action,
        source,
    }
}
