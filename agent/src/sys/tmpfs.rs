//! A tmpfs that is mounted nowhere yet: made by descriptor, to be attached later and held on to.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libc::{c_int, c_long, c_uint};

use super::process::done;

/// From `linux/mount.h` (fsopen(2), fsconfig(2), fsmount(2)).
const FSOPEN_CLOEXEC: c_uint = 1;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
const FSMOUNT_CLOEXEC: c_uint = 1;

/// Makes a tmpfs with these options (tmpfs(5)), without devices, programs and set-id bits. It
/// vanishes with the last descriptor and mount of it.
pub fn detached(options: &[(&CStr, &str)]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a terminated string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(fd)?;
    for (name, value) in options {
        let value = CString::new(*value)?;
        // SAFETY: both strings are terminated and outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                FSCONFIG_SET_STRING,
                name.as_ptr(),
                value.as_ptr(),
                0,
            )
        };
        done(result)?;
    }
    // SAFETY: name and value are null for this command (fsconfig(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            ptr::null::<libc::c_char>(),
            ptr::null::<libc::c_char>(),
            0,
        )
    };
    done(result)?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: all arguments are integers (fsmount(2)).
    let fd = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_fd().as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes,
        )
    };
    owned(fd)
}

fn owned(fd: c_long) -> io::Result<OwnedFd> {
    done(fd)?;
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the caller's system call has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
