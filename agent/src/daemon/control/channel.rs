//! Frames over a unix stream socket: one JSON object a line, bounded, with descriptors beside them.
//!
//! It knows nothing of what the frames say.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

use crate::sys::seqpacket;

/// Longest frame that the agent takes, bytes with the end of line.
pub const REQUEST_BYTES_MAX: usize = 64 * 1_024;
/// Longest frame that the command line takes: a status names every policy.
pub const REPLY_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Descriptors of one connection: the three of a worker.
pub const FDS_MAX: usize = 3;
/// Time the other end has to take a frame.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Most requests are shorter; zeroed for each connection.
const READ_BYTES: usize = 4 * 1_024;

const _: () = assert!(REQUEST_BYTES_MAX <= REPLY_BYTES_MAX);
const _: () = assert!(FDS_MAX <= seqpacket::MESSAGE_FDS_MAX);

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// Where bytes arrive; on the heap, so that a waiting task stays small.
    arrivals: Box<[u8]>,
    frame_bytes_max: usize,
}

/// The connection can not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No agent listens there.
    #[error(
        "control socket: no agent listens\nhint: `systemctl start stockade`, or `stockade agent`"
    )]
    NoAgent(#[source] io::Error),
    /// The socket is not for this user.
    #[error(
        "control socket: not permitted\nhint: be root or a member of the control group (`stockade-admin` unless configured)"
    )]
    NotPermitted(#[source] io::Error),
    /// The other end is gone or the socket failed.
    #[error("control socket: failed")]
    Io(#[from] io::Error),
    /// A frame is too long.
    #[error("control socket: frame of more than {0} bytes")]
    Long(usize),
    /// A frame is not what is expected.
    #[error("control socket: frame is not valid")]
    Frame(#[source] serde_json::Error),
    /// More descriptors than anything needs.
    #[error("control socket: more than {FDS_MAX} descriptors")]
    Descriptors,
    /// The other end did not take a frame.
    #[error("control socket: the other end did not read for {} s", SEND_TIMEOUT.as_secs())]
    Slow,
}

impl Channel {
    /// Connects to an agent.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                Error::NotPermitted(error)
            } else {
                Error::NoAgent(error)
            }
        })?;
        Ok(Self::new(stream, REPLY_BYTES_MAX))
    }

    /// A channel over a stream that takes frames up to a length.
    #[must_use]
    pub fn new(stream: UnixStream, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            fds: Vec::new(),
            arrivals: vec![0; READ_BYTES].into_boxed_slice(),
            frame_bytes_max,
        }
    }

    /// Waits for the next frame; none when the other end has closed. May be cancelled and called
    /// again without loss.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end.saturating_add(1));
                let frame = std::mem::replace(&mut self.buffer, rest);
                return serde_json::from_slice(&frame)
                    .map(Some)
                    .map_err(Error::Frame);
            }
            if self.buffer.len() >= self.frame_bytes_max {
                return Err(Error::Long(self.frame_bytes_max));
            }
            let (stream, arrivals) = (&self.stream, &mut self.arrivals);
            let message = stream
                .async_io(Interest::READABLE, || seqpacket::receive(stream, arrivals))
                .await?;
            let Some(seqpacket::Message { bytes, fds }) = message else {
                return Ok(None);
            };
            self.buffer.extend(bytes);
            self.fds.extend(fds);
            if self.fds.len() > FDS_MAX {
                return Err(Error::Descriptors);
            }
        }
    }

    /// The descriptors that came so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Sends a frame.
    pub async fn send<T: Serialize>(&mut self, frame: &T) -> Result<(), Error> {
        let line = line(frame)?;
        let sent = timeout(SEND_TIMEOUT, self.stream.write_all(&line)).await;
        Ok(sent.map_err(|_elapsed| Error::Slow)??)
    }

    /// Sends a frame with descriptors.
    pub async fn send_with<T: Serialize>(
        &mut self,
        frame: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let line = line(frame)?;
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let (first, rest) = line.split_at(1);
        self.stream
            .async_io(Interest::WRITABLE, || {
                seqpacket::send(&self.stream, first, &fds)
            })
            .await?;
        Ok(self.stream.write_all(rest).await?)
    }

    /// The process at the other end, as it was when it connected (`SO_PEERCRED`, `unix(7)`).
    pub fn peer(&self) -> io::Result<tokio::net::unix::UCred> {
        self.stream.peer_cred()
    }
}

fn line<T: Serialize>(frame: &T) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(frame).map_err(Error::Frame)?;
    line.push(b'\n');
    Ok(line)
}
