//! The schema file that a policy file names: beside it, or at an absolute path. Opened once, looked at
//! through the descriptor that is read.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

use crate::{ownership, policy::schema::SCHEMA_BYTES_MAX};

/// Not waiting for a FIFO's writer, not becoming a terminal's owner.
const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// The bytes of a schema file, or why not. A relative name never leads out of the policy's folder, not
/// by a link either. `trusted`: only one that nobody but root and the agent could have written.
pub(super) fn read(policy: &Path, name: &str, trusted: bool) -> Result<Vec<u8>, String> {
    let judge = |file: &File| {
        let looked = ownership::file(Path::new(name), file);
        looked.map_err(|distrust| distrust.to_string().replace('\n', "; "))
    };
    let name = Path::new(name);
    let opened = open(policy, name);
    let missing = name.is_relative() && matches!(opened, Err(nix::Error::ENOENT));
    let read = bytes(opened, |file| if trusted { judge(file) } else { Ok(()) });
    if !missing {
        return read;
    }
    let place = folder(policy).join(name);
    read.map_err(|why| format!("{why}; looked for it at `{}`", place.display()))
}

/// The bytes of a schema file that no policy names, or why not.
pub(super) fn read_alone(path: &Path) -> Result<Vec<u8>, String> {
    bytes(openat2(AT_FDCWD, path, OpenHow::new().flags(FLAGS)), |_| {
        Ok(())
    })
}

fn bytes(
    opened: nix::Result<OwnedFd>,
    judge: impl FnOnce(&File) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let file = File::from(opened.map_err(|errno| {
        if errno == nix::Error::EXDEV {
            "it lies outside the policy's folder".to_owned()
        } else {
            format!("can not be read: {}", errno.desc())
        }
    })?);
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !regular {
        return Err("not a regular file".to_owned());
    }
    judge(&file)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(SCHEMA_BYTES_MAX).unwrap_or(u64::MAX);
    // One more, so that `Schema::read` sees that it is too large.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can not be read: {error}"))?;
    Ok(bytes)
}

fn open(policy: &Path, name: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(FLAGS);
    if name.is_absolute() {
        let how = how.resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        return openat2(AT_FDCWD, name, how);
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = nix::fcntl::open(folder(policy), flags, Mode::empty())?;
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(folder.as_fd(), name, how.resolve(beneath))
}

/// Where the schemas of a policy lie that are named by a relative path.
fn folder(policy: &Path) -> &Path {
    match policy.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
