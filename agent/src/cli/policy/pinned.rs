//! What the pins of a policy are on this host: which paths its command runs, and whether each is as
//! it was pinned.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{
    policy::{
        compiled::{CompiledPolicy, Digest, Pin, PinKind},
        lock::{Lock, Role},
    },
    sandbox::{
        interpreter,
        sum::{self, Sum},
    },
};

/// A path can not be pinned.
#[derive(Debug, thiserror::Error)]
#[error("{role} `{}`: {source}", path.display(), role = role.word())]
pub(super) struct PinError {
    path: PathBuf,
    role: Role,
    source: io::Error,
}

/// The paths that a policy's command runs, each with why.
pub(super) fn of_command(policy: &CompiledPolicy) -> Result<BTreeMap<PathBuf, Role>, PinError> {
    let mut paths = BTreeMap::new();
    let Some((program, arguments)) = policy.worker.command.split_first() else {
        return Ok(paths);
    };
    let program = PathBuf::from(program);
    with_interpreters(&mut paths, &program, Role::Program)?;
    for argument in arguments {
        let path = Path::new(argument);
        let filesystem = &policy.filesystem;
        let mut lists = filesystem.read.iter().chain(&filesystem.execute);
        let listed = path.is_absolute() && lists.any(|folder| path.starts_with(folder));
        if listed && path.is_file() {
            paths.entry(path.to_owned()).or_insert(Role::Argument);
        }
    }
    Ok(paths)
}

/// A program, what runs it, and what runs that.
fn with_interpreters(
    paths: &mut BTreeMap<PathBuf, Role>,
    path: &Path,
    role: Role,
) -> Result<(), PinError> {
    if paths.contains_key(path) {
        return Ok(());
    }
    let failed = |source| PinError {
        path: path.to_owned(),
        role,
        source,
    };
    let file = open(path).map_err(failed)?;
    let next = interpreter::of(&file).map_err(failed)?;
    paths.insert(path.to_owned(), role);
    match next {
        Some(next) => with_interpreters(paths, &next, Role::Interpreter),
        None => Ok(()),
    }
}

/// Kind and sum of what lies at a path.
pub(super) fn pin(path: &Path, role: Role) -> Result<Pin, PinError> {
    let found = open(path).and_then(|mut file| {
        if file.metadata()?.is_dir() {
            Ok((PinKind::Directory, sum::folder(&file)?.sum))
        } else {
            Ok((PinKind::File, sum::file(&mut file)?.0))
        }
    });
    let (kind, sha256) = found.map_err(|source| PinError {
        path: path.to_owned(),
        role,
        source,
    })?;
    let path = path.to_owned();
    Ok(Pin { path, kind, sha256 })
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(file)
    } else {
        Err(io::Error::other("neither a file nor a folder"))
    }
}

/// Everything that keeps a launch from being what was pinned, a sentence each.
pub(super) fn differences(policy: &CompiledPolicy, lock: Option<&Lock>) -> Vec<String> {
    let mut found: Vec<String> = policy.worker.pins.iter().filter_map(difference).collect();
    let Some(lock) = lock else {
        return found;
    };
    let needed = match of_command(policy) {
        Ok(needed) => needed,
        Err(error) => {
            found.push(error.to_string());
            return found;
        }
    };
    let pins = &policy.worker.pins;
    for (path, role) in &needed {
        if !pins.iter().any(|pin| pin.path == *path) {
            let (word, path) = (role.word(), path.display());
            found.push(format!("{word} `{path}`: not in the lock file"));
        }
    }
    for locked in &lock.pins {
        let path = &locked.pin.path;
        if locked.role != Role::Asked && !needed.contains_key(path) {
            let (word, path) = (locked.role.word(), path.display());
            found.push(format!("{word} `{path}`: the policy no longer runs it"));
        }
    }
    found
}

fn difference(expected: &Pin) -> Option<String> {
    let path = expected.path.display();
    match pin(&expected.path, Role::Asked) {
        Err(error) => Some(format!("`{path}`: {}", error.source)),
        Ok(found) if found.kind != expected.kind => {
            let (is, was) = (found.kind.word(), expected.kind.word());
            Some(format!("`{path}`: a {is}, pinned as a {was}"))
        }
        Ok(found) => differs(&path, &found.sha256, &expected.sha256),
    }
}

fn differs(path: &impl std::fmt::Display, found: &Sum, expected: &Sum) -> Option<String> {
    (found != expected).then(|| {
        let (found, expected) = (Digest(*found), Digest(*expected));
        format!("`{path}`: its sum is {found}, pinned is {expected}")
    })
}
