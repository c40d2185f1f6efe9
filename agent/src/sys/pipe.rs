//! What a pipe holds.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    errno::Errno,
    libc::{self, c_int},
};

/// Bytes that were written to a pipe and not read yet (`FIONREAD`, `pipe(7)`).
pub fn unread(pipe: impl AsFd) -> io::Result<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is borrowed, so it is open, and the kernel writes one int to where the last
    // argument shows (`pipe(7)`).
    let done = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    Errno::result(done)?;
    // No count is negative.
    Ok(u64::try_from(bytes).unwrap_or(0))
}
