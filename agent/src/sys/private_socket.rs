//! A unix socket that has its group and mode from its first instant. Whether its name is free, and
//! whose folder it lies in, is its maker's matter.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::Path,
    thread,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, umask},
    unistd::{Gid, setfsgid},
};

/// What the mode of a group's socket lacks: it is 0660.
const GROUP_UMASK: Mode = Mode::S_IXUSR.union(Mode::S_IXGRP).union(Mode::S_IRWXO);
/// What that of nobody's but its owner lacks: it is 0600.
const OWNER_UMASK: Mode = Mode::S_IXUSR.union(Mode::S_IRWXG).union(Mode::S_IRWXO);

/// Makes the socket, for this user and the members of `gid`; without one for this user alone, whatever
/// group the user has. It does not block.
///
/// It is bound in a thread with an umask and a file-system group of its own: those of the process would
/// have to change for a moment, in which other threads make files.
pub fn bind(path: &Path, gid: Option<u32>) -> io::Result<UnixListener> {
    let path = path.to_owned();
    let thread = thread::Builder::new().name("private-socket".to_owned());
    let made = thread.spawn(move || in_own_thread(&path, gid))?;
    made.join()
        .unwrap_or_else(|_panic| Err(io::ErrorKind::Other.into()))
}

fn in_own_thread(path: &Path, gid: Option<u32>) -> io::Result<UnixListener> {
    unshare(CloneFlags::CLONE_FS)?;
    let mode = match gid {
        None => {
            umask(OWNER_UMASK);
            0o600
        }
        Some(gid) => {
            umask(GROUP_UMASK);
            // It tells the group of before, not whether it worked: what was made is looked at.
            setfsgid(Gid::from_raw(gid));
            0o660
        }
    };
    let listener = UnixListener::bind(path)?;
    let found = fs::symlink_metadata(path)?;
    if gid.is_some_and(|gid| found.gid() != gid) || found.permissions().mode() & 0o777 != mode {
        fs::remove_file(path)?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}
