//! The agent's end of a message socket.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::sys::socket::SockFlag;
use serde::Serialize;
use tokio::io::{Interest, unix::AsyncFd};

use super::protocol;
use crate::sys::{
    readiness::watch,
    seqpacket::{self, MESSAGE_BYTES_MAX, Message},
};

/// Replies are short: a step's name and a sentence.
const REPLY_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(REPLY_BYTES_MAX <= MESSAGE_BYTES_MAX);

/// A connected socket whose other end waits in a process of ours.
#[derive(Debug)]
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    /// Where messages arrive; made once, not for each.
    arrivals: Box<[u8]>,
}

impl Channel {
    /// A pair: this end, and the one to hand over. Wants a runtime.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = seqpacket::pair(SockFlag::empty())?;
        Ok((Self::new(ours)?, theirs))
    }

    /// This end of a pair that was made before.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        nonblocking(socket.as_fd())?;
        Ok(Self {
            socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            arrivals: vec![0; REPLY_BYTES_MAX].into_boxed_slice(),
        })
    }

    pub(super) async fn send(&self, value: &impl Serialize, fds: &[RawFd]) -> io::Result<()> {
        let bytes = protocol::encode(value)?;
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                seqpacket::send(socket, &bytes, fds)
            })
            .await
    }

    /// The next message; an error when the other end is gone.
    pub(super) async fn receive(&mut self) -> io::Result<Message> {
        let Self { socket, arrivals } = self;
        socket
            .async_io(Interest::READABLE, |socket| {
                seqpacket::receive(socket, arrivals)
            })
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

fn nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
