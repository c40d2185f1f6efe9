//! What a worker writes, a line at a time, bounded.

use std::io;

use tokio::{io::AsyncReadExt as _, net::unix::pipe};

use super::Failure;
use crate::broker::reason::Reason;

/// Bytes at a time, at first: what most answers fit into.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// Bytes at a time of a long answer: what a pipe holds.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A pipe, read line by line.
pub(super) struct Lines {
    /// None where it could not be taken to another runtime.
    pipe: Option<pipe::Receiver>,
    held: Vec<u8>,
    /// Bytes of `held` in which there is no end of line.
    looked: usize,
    max: usize,
}

impl Lines {
    pub(super) fn new(pipe: pipe::Receiver, max: usize) -> Self {
        Self {
            pipe: Some(pipe),
            held: Vec::new(),
            looked: 0,
            max,
        }
    }

    /// Has it watched by the runtime of the caller.
    pub(super) fn come_here(&mut self) -> io::Result<()> {
        if let Some(pipe) = self.pipe.take() {
            self.pipe = Some(pipe::Receiver::from_owned_fd(pipe.into_nonblocking_fd()?)?);
        }
        Ok(())
    }

    /// The next line without its end; nothing where no further line is finished. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let fresh = self.held.get(self.looked..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let end = self.looked.saturating_add(at);
                let rest = self.held.split_off(end.saturating_add(1));
                let mut line = std::mem::replace(&mut self.held, rest);
                line.truncate(end);
                self.looked = 0;
                return Ok(Some(line));
            }
            self.looked = self.held.len();
            if self.read().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Everything to the end.
    pub(super) async fn rest(&mut self) -> Result<Vec<u8>, Failure> {
        while self.read().await? > 0 {}
        Ok(std::mem::take(&mut self.held))
    }

    async fn read(&mut self) -> Result<usize, Failure> {
        if self.held.len() > self.max {
            return Err(Failure::after(
                Reason::WorkerTooLarge,
                format!("more than {} bytes", self.max),
            ));
        }
        let chunk = self.held.len().clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        self.held.reserve(chunk);
        let read = match &mut self.pipe {
            Some(pipe) => pipe.read_buf(&mut self.held).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        read.map_err(|error| Failure::after(Reason::WorkerFailed, error))
    }
}
