//! What an instance has left behind on this host: nothing, if all is well.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::cgroup;

const POLL: Duration = Duration::from_millis(20);

/// Everything that still bears the instance's name, or a uid of its workers.
pub fn of_instance(instance: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let folders = [
        cgroup::mount()?.join(instance),
        Path::new("/sys/fs/bpf").join(instance),
        Path::new("/run").join(instance),
    ];
    found.extend(
        folders
            .iter()
            .filter(|path| path.exists())
            .map(|path| format!("folder {}", path.display())),
    );
    found.extend(controllers_of(instance)?);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    found.extend(
        mounts
            .lines()
            .filter(|line| names(line, &format!("/{instance}")))
            .map(|line| format!("mount {line}")),
    );
    found.extend(processes_of(instance)?);
    Ok(found)
}

/// The same, after waiting for it to become nothing.
pub fn after(instance: &str, patience: Duration) -> Result<Vec<String>> {
    let until = Instant::now() + patience;
    loop {
        let found = of_instance(instance)?;
        if found.is_empty() || Instant::now() > until {
            return Ok(found);
        }
        std::thread::sleep(POLL);
    }
}

/// Cgroups of the old hierarchies, where those are mounted beside v2.
fn controllers_of(instance: &str) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(
            |line| match line.split(' ').collect::<Vec<_>>().as_slice() {
                [_, path, "cgroup", ..] => Some(PathBuf::from(path).join(instance)),
                _ => None,
            },
        )
        .filter(|path| path.exists())
        .map(|path| format!("folder {}", path.display()))
        .collect())
}

/// Whether a text has this name in it, and not only one that begins with it: instances are numbered.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let next = text.as_bytes().get(at + name.len());
        !next.is_some_and(u8::is_ascii_digit)
    })
}

/// Processes whose command line or cgroup names the instance.
fn processes_of(instance: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process || path.ends_with(std::process::id().to_string()) {
            continue;
        }
        // A process that has ended in between is no leftover.
        let cgroups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if names(&cgroups, &format!("/{instance}")) || names(&words, instance) {
            found.push(format!("process {}: {words}", path.display()));
        }
    }
    Ok(found)
}

/// Processes with a uid of the range that workers get.
pub fn workers_alive(range: std::ops::Range<u32>) -> Result<Vec<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if range.contains(&metadata.uid()) {
            found.push(format!("{} uid {}", entry.path().display(), metadata.uid()));
        }
    }
    Ok(found)
}
