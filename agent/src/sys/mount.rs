//! The mount calls that work on descriptors: a tree is copied, restricted and only then attached, so
//! there is no instant at which it is visible without its restrictions.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use libc::{c_int, c_uint};

use super::process::done;

/// What a mount forbids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restrictions {
    /// No writes.
    pub read_only: bool,
    /// No device nodes.
    pub no_devices: bool,
    /// No program files.
    pub no_exec: bool,
}

/// Copies the mount tree at `path`, submounts included where `recursive`. The copy is attached
/// nowhere; it vanishes with the descriptor.
pub fn copy_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: `path` is a terminated string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    done(fd)?;
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: open_tree(2) has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A mount of one file alone, by its descriptor; nothing that is mounted on it comes along.
pub fn copy_one(file: impl AsFd) -> io::Result<OwnedFd> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is empty (AT_EMPTY_PATH): the descriptor alone says which file.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    done(fd)?;
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: open_tree(2) has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Restricts every mount of a tree; set-id bits are always ignored.
pub fn restrict(tree: impl AsFd, restrictions: Restrictions) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID;
    if restrictions.read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if restrictions.no_devices {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    if restrictions.no_exec {
        set |= libc::MOUNT_ATTR_NOEXEC;
    }
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is empty (AT_EMPTY_PATH) and `attributes` outlives the call, with its size
    // beside it (mount_setattr(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned(),
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    done(result)
}

/// Attaches a tree at `target`; a link there is not followed.
pub fn attach(tree: impl AsFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    let flags: c_uint = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both strings are terminated and outlive the call (move_mount(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
        )
    };
    done(result)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
