//! Waiting for a descriptor without blocking a thread.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor with the runtime of the caller.
pub fn watch<T: AsFd + AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` vouches that the source keeps one and the same descriptor open for as long as
    // it lives, and the returned value owns the source.
    let watched = unsafe { AsyncFd::register_with_interest(source, interest) };
    watched.map_err(io::Error::from)
}
