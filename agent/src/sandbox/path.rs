//! Paths of the host by descriptor: resolved once, and bound only while they are what was resolved.
//!
//! The agent resolves a listed path when it makes a plan; a template opens it later. In between a
//! name may be given to something else: so the plan holds what the name stood for, and the template
//! opens the resolved path without following any link and compares.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{FileStat, Mode, SFlag, fstat},
};
use serde::{Deserialize, Serialize};

/// `EAGAIN` is also what the kernel says when somebody mounts or renames in the moment of the look
/// (`openat2(2)`, `RESOLVE_CACHED`): every session that starts mounts.
const LOOKS: usize = 4;

/// Device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    device: u64,
    inode: u64,
}

/// What a path stood for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// The path without symbolic links.
    pub path: PathBuf,
    /// What lay there.
    pub place: Place,
    /// Whether it is a folder.
    pub folder: bool,
}

/// Follows every link of a path, once.
pub fn resolve(path: &Path) -> io::Result<Resolved> {
    let held = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let found = fstat(&held)?;
    let name = fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
    Ok(Resolved {
        path: name,
        place: Place::of(&found),
        folder: is(&found, SFlag::S_IFDIR),
    })
}

/// Opens a path that was resolved, if it still stands for the same; nothing on the way may be a
/// link. Neither readable nor writable: to be bound.
pub fn reopen(path: &Path, place: Place) -> io::Result<OwnedFd> {
    let held = without_links(AT_FDCWD, path, OFlag::O_PATH)?;
    if Place::of(&fstat(&held)?) == place {
        Ok(held)
    } else {
        Err(io::Error::other(
            "became another file while the fence was made",
        ))
    }
}

/// Opens a path of which no part may be a symbolic link.
pub(super) fn without_links(at: impl AsFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(at, path, how)?)
}

/// Opens a path, neither readable nor writable, if the kernel can follow it without waiting for a disk
/// or a server: `EAGAIN` where it can not.
pub fn open_at_once(at: impl AsFd, path: &Path, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(
            resolve
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                // `nix` has no name for it.
                | ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED),
        );
    let open = || openat2(at.as_fd(), path, how);
    let is_settled = |found: &Result<_, _>| !matches!(found, Err(Errno::EAGAIN));
    std::iter::repeat_with(open)
        .take(LOOKS)
        .find(is_settled)
        .unwrap_or(Err(Errno::EAGAIN))
}

/// Whether a file is of this kind.
pub(super) fn is(found: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == kind
}

impl Place {
    fn of(found: &FileStat) -> Self {
        Self {
            device: found.st_dev,
            inode: found.st_ino,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::libc::ELOOP;

    use super::{reopen, resolve};

    #[test]
    fn links_are_followed_once_and_never_again() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/folder")).unwrap();
        symlink("real", root.join("inner")).unwrap();
        symlink("inner/folder", root.join("outer")).unwrap();
        let found = resolve(&root.join("outer")).unwrap();
        assert_eq!(found.path, root.join("real/folder"));
        assert!(found.folder);
        reopen(&found.path, found.place).unwrap();

        // Another folder by that name, then a link, at the end of the path and on the way.
        let aside = root.join("aside");
        fs::rename(&found.path, &aside).unwrap();
        fs::create_dir(&found.path).unwrap();
        let error = reopen(&found.path, found.place).unwrap_err();
        assert!(error.to_string().contains("another file"), "{error}");
        fs::remove_dir(&found.path).unwrap();
        symlink(&aside, &found.path).unwrap();
        let error = reopen(&found.path, found.place).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ELOOP));
        fs::remove_file(&found.path).unwrap();
        fs::rename(&aside, &found.path).unwrap();
        reopen(&found.path, found.place).unwrap();
        fs::rename(root.join("real"), root.join("moved")).unwrap();
        symlink("moved", root.join("real")).unwrap();
        let error = reopen(&found.path, found.place).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ELOOP));
    }
}
