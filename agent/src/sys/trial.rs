//! What the self-test of a fence tries: one system call each, on the stack, without allocation. What
//! a call makes is gone when it returns or when its descriptor is dropped.

use std::{
    ffi::CStr,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_long};

use super::process::done;

/// `socket(2)`
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers; wrong ones are answered with an errno.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_socket,
            family,
            kind | libc::SOCK_CLOEXEC,
            protocol,
        )
    };
    owned(fd)
}

/// `connect(2)` to an IPv4 address.
pub fn connect(socket: BorrowedFd<'_>, address: Ipv4Addr, port: u16) -> io::Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: pointer and length are those of one initialised value that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_connect,
            socket.as_raw_fd(),
            &raw const address,
            size_of::<libc::sockaddr_in>(),
        )
    };
    done(result)
}

/// Opens a folder as one does to list it.
pub fn list(folder: &CStr) -> io::Result<OwnedFd> {
    open(folder, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Makes a file that was not there, and removes it again.
pub fn make_and_remove(file: &CStr) -> io::Result<()> {
    let made = open(
        file,
        libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW,
    )?;
    drop(made);
    // SAFETY: the path is a terminated string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, file.as_ptr(), 0) };
    done(result)
}

/// `unshare(2)` of nothing: where the call is not refused it succeeds for every user, without effect.
pub fn unshare_nothing() -> io::Result<()> {
    // SAFETY: takes a number; 0 changes nothing.
    let result = unsafe { libc::syscall(libc::SYS_unshare, 0) };
    done(result)
}

fn open(path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the path is a terminated string that outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags | libc::O_CLOEXEC,
            0o600,
        )
    };
    owned(fd)
}

fn owned(fd: c_long) -> io::Result<OwnedFd> {
    done(fd)?;
    let fd = c_int::try_from(fd).map_err(|_beyond| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
