//! Waiting for descriptors in the runtime.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor with the runtime of the caller.
pub fn watch<T: AsFd + AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` vouches that the source gives the same descriptor each time it is asked and
    // keeps it open until it is dropped, which `AsyncFd` does after deregistering it.
    let registered = unsafe { AsyncFd::register_with_interest(source, interest) };
    registered.map_err(io::Error::from)
}
