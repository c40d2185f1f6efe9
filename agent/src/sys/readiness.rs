//! Waiting for a descriptor without blocking a thread.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor for something to read.
pub fn watch<T: AsFd + AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` vouches that the source keeps one and the same descriptor open for as long as
    // it lives, and the returned value owns the source.
    let watched = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
    watched.map_err(io::Error::from)
}
