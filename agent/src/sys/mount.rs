//! The mount calls that work on descriptors: a tree is copied, restricted and only then attached, so
//! there is no instant at which it is visible without its restrictions.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

use libc::{c_char, c_int, c_long, c_uint};

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

// linux/mount.h; libc has them for few targets.
const FSOPEN_CLOEXEC: c_uint = 1;
const FSMOUNT_CLOEXEC: c_uint = 1;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;

/// Makes a tmpfs with these options. It is attached nowhere, and vanishes with the descriptor as long
/// as it is not.
pub fn new_tmpfs(options: &[(&CStr, &CStr)], restrictions: Restrictions) -> io::Result<OwnedFd> {
    // SAFETY: the name is a terminated string (fsopen(2)).
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), FSOPEN_CLOEXEC) };
    let context = descriptor(context)?;
    for (name, value) in options {
        configure(&context, FSCONFIG_SET_STRING, name.as_ptr(), value.as_ptr())?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())?;
    // SAFETY: takes a descriptor and numbers (fsmount(2)).
    let mount = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes(restrictions),
        )
    };
    descriptor(mount)
}

fn configure(
    context: &OwnedFd,
    command: c_uint,
    name: *const c_char,
    value: *const c_char,
) -> io::Result<()> {
    // SAFETY: name and value are null or terminated strings that outlive the call (fsconfig(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            name,
            value,
            0_i32,
        )
    };
    done(result)
}

fn descriptor(result: c_long) -> io::Result<OwnedFd> {
    done(result)?;
    let fd = c_int::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the calls of this file that come here have just made this descriptor; nobody owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Copies the mount tree at `path`, submounts included where `recursive`. The copy is attached
/// nowhere; it vanishes with the descriptor.
pub fn copy_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(libc::AT_FDCWD, &c_path(path)?, recursive, 0)
}

/// Copies the mount tree at what a descriptor stands for, whatever its name is by now.
pub fn copy_tree_of(held: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let at = held.as_fd().as_raw_fd();
    open_tree(at, c"", recursive, libc::AT_EMPTY_PATH.cast_unsigned())
}

fn open_tree(at: c_int, path: &CStr, recursive: bool, flags: c_uint) -> io::Result<OwnedFd> {
    let mut flags = flags | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: `path` is a terminated string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) };
    descriptor(fd)
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
    let change = libc::mount_attr {
        attr_set: attributes(restrictions),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is empty (AT_EMPTY_PATH) and `change` outlives the call, with its size
    // beside it (mount_setattr(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned(),
            &raw const change,
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

fn attributes(restrictions: Restrictions) -> u64 {
    let Restrictions {
        read_only,
        no_devices,
        no_exec,
    } = restrictions;
    let mut set = libc::MOUNT_ATTR_NOSUID;
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if no_devices {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    if no_exec {
        set |= libc::MOUNT_ATTR_NOEXEC;
    }
    set
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
