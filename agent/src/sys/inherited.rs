//! Sockets that the service manager made and handed over (`sd_listen_fds(3)`).

use std::{
    env, io,
    os::{
        fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{
        AddressFamily, SockType, SockaddrLike as _, UnixAddr, getsockname, getsockopt, sockopt,
    },
};

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// Most descriptors that are looked at.
const MOST: RawFd = 64;

/// They are ours once only.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes every descriptor that was handed over, keeps the listening unix stream socket of this name
/// (`FileDescriptorName=`) and closes the others. None where none was handed over or they were taken
/// before.
pub fn listener(name: &str) -> io::Result<Option<UnixListener>> {
    let text = |key: &str| env::var(key).ok();
    let for_us = text("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    if !for_us || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(None);
    }
    let count: RawFd = text("LISTEN_FDS")
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    let names = text("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut found = None;
    for number in (FIRST..).take(usize::try_from(count.clamp(0, MOST)).unwrap_or(0)) {
        // SAFETY: the service manager opened `LISTEN_FDS` descriptors from 3 on for the process that
        // `LISTEN_PID` names, before it was executed (sd_listen_fds(3)); that is this one, nothing
        // else of it takes them, and `TAKEN` lets this happen once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        if let Err(error) = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            // Nothing is open under that number: there is nothing to close either.
            let _closed: RawFd = fd.into_raw_fd();
            return Err(error.into());
        }
        if names.next() == Some(name) {
            found = Some(fd);
        }
    }
    found.map(checked).transpose()
}

/// A descriptor that is what its unit says it is.
fn checked(fd: OwnedFd) -> io::Result<UnixListener> {
    let address: UnixAddr = getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    let is_stream = getsockopt(&fd.as_fd(), sockopt::SockType)? == SockType::Stream;
    let listens = getsockopt(&fd.as_fd(), sockopt::AcceptConn)?;
    // An abstract socket is anybody's who shares the network namespace.
    let has_path = address.path().is_some() && address.family() == Some(AddressFamily::Unix);
    if !(is_stream && listens && has_path) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
