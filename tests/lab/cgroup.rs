//! Finds the cgroup v2 tree and the cgroups of an instance in it.

use std::{fs, path::PathBuf};

use agent::sys::xattr::attribute;
use anyhow::{Context as _, Result};

/// Where cgroup v2 is mounted.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find_map(|words| match words.as_slice() {
            [_, path, "cgroup2", ..] => Some(PathBuf::from(path)),
            _ => None,
        })
        .context("no cgroup v2 is mounted")
}

/// The cgroups of the instance's sessions.
pub fn sessions(instance: &str) -> Result<Vec<PathBuf>> {
    below(instance, true)
}

/// The cgroups that wait for a session.
pub fn vacant(instance: &str) -> Result<Vec<PathBuf>> {
    below(instance, false)
}

/// The cgroups below the instance's parent that were given to a session, or were not.
fn below(instance: &str, given: bool) -> Result<Vec<PathBuf>> {
    let parent = mount()?.join(instance);
    if !parent.exists() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(&parent)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        // One that goes while we look is none.
        let Ok(folder) = fs::File::open(entry.path()) else {
            continue;
        };
        if attribute(&folder, "trusted.stockade.session")?.is_some() == given {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Process ids in a cgroup.
pub fn processes(cgroup: &std::path::Path) -> Result<Vec<u32>> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}
