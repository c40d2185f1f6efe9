//! The end of a worker's stream that is read here, and how much was written at the other.
//!
//! What was written is known when nobody writes any more, even while what was read waits for who reads
//! *this* process: no slow reader hides that it was too much.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
};

use crate::sys::{pipe, readiness};

/// Where a worker's stream comes out. Whoever reads it closes it by dropping this.
pub(super) struct Source {
    stream: Arc<Stream>,
    _closed: oneshot::Sender<()>,
}

/// What is to be known of a stream.
pub(super) struct Count {
    stream: AsyncFd<Arc<Stream>>,
    closed: oneshot::Receiver<()>,
}

struct Stream {
    pipe: File,
    /// Bytes that were read; held while reading, so that none is on its way when somebody asks.
    read: Mutex<u64>,
}

impl Source {
    /// Wants a runtime.
    pub(super) fn new(pipe: File) -> io::Result<(Self, Count)> {
        let read = Mutex::default();
        let stream = Arc::new(Stream { pipe, read });
        let (closing, closed) = oneshot::channel();
        let count = Count {
            // Nothing of that kind comes through a pipe, and its end is told whatever was asked for.
            stream: readiness::watch(Arc::clone(&stream), Interest::PRIORITY)?,
            closed,
        };
        let source = Self {
            stream,
            _closed: closing,
        };
        Ok((source, count))
    }
}

impl Read for &Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let stream = &self.stream;
        let mut read = stream.read.lock().unwrap_or_else(PoisonError::into_inner);
        let length = (&stream.pipe).read(bytes)?;
        *read = read.saturating_add(length as u64);
        Ok(length)
    }
}

impl Count {
    /// Bytes that were written, when nobody writes any more; or when this end is closed, by then.
    pub(super) async fn written(self) -> io::Result<u64> {
        let Self { stream, closed } = self;
        tokio::select! {
            ended = stream.ready(Interest::PRIORITY) => drop(ended?),
            _ = closed => {}
        }
        // Nobody waits for bytes any more, so whoever reads has done so at once.
        let stream = stream.get_ref();
        let read = stream.read.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(read.saturating_add(pipe::unread(&stream.pipe)?))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}
