//! A session that runs.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use common::id::SessionId;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::io::{AsyncReadExt, Interest, unix::AsyncFd};

use super::{
    error::LaunchError,
    protocol::{self, STATUS_BYTES},
    seat::Taken,
};
use crate::{
    sandbox::{Enforced, output::Left},
    sys,
};

/// How a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code that a shell would show: 128 and the signal's number for one that was killed.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)),
        }
    }
}

/// A session. Everything in it is killed when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Running {
    session: SessionId,
    enforced: Enforced,
    /// The part of the status that was read; kept here so that a dropped wait loses nothing.
    read: Vec<u8>,
    exit: Option<Exit>,
    taken: Taken,
}

/// Process 1 of the session; killed, and everything in its namespace with it, when dropped.
#[derive(Debug)]
pub(super) struct ProcessOne(AsyncFd<OwnedFd>);

impl ProcessOne {
    pub(super) fn new(pidfd: OwnedFd) -> Result<Self, LaunchError> {
        let watched = sys::readiness::watch(pidfd, Interest::READABLE);
        watched.map(Self).map_err(LaunchError::Lost)
    }

    /// Whether it has not ended.
    pub(super) fn is_there(&self) -> bool {
        let mut fds = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) == Ok(0)
    }

    pub(super) async fn gone(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    pub(super) fn kill(&self) {
        // ESRCH: it has ended already.
        if let Err(error) = sys::process::signal(&self.0, libc::SIGKILL)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            tracing::warn!(error = %error, "session not killed");
        }
    }
}

impl Drop for ProcessOne {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// A session whose worker's program was executed.
    pub(super) fn started(
        session: SessionId,
        taken: Taken,
        enforced: impl FnOnce(u32) -> Enforced,
    ) -> Self {
        Self {
            session,
            enforced: enforced(taken.uid.get()),
            read: Vec::with_capacity(STATUS_BYTES),
            exit: None,
            taken,
        }
    }

    /// Which session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What was put up for it.
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// Waits for the end of the worker. May be called again, and dropped half-way.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        while self.read.len() < STATUS_BYTES
            && self.taken.status.read_buf(&mut self.read).await? > 0
        {}
        let exit = match <[u8; STATUS_BYTES]>::try_from(self.read.as_slice()) {
            Ok(status) => protocol::ended(status)?,
            // Process 1 was killed before it could tell, and everything with it.
            Err(_) if self.read.is_empty() => Exit::Signal(libc::SIGKILL),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Waits until process 1 and all that was in its namespace is gone, mounts included.
    pub async fn gone(&self) -> io::Result<()> {
        self.taken.process_one.gone().await
    }

    /// What the worker leaves to be handed out; to be looked at when everything in the session is
    /// gone. Given once.
    pub fn take_left(&mut self) -> Option<Left> {
        self.taken.left.take()
    }

    /// Sends a signal to the worker's process group.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::process::signal(&self.taken.process_one.0, signal)
    }

    /// Kills everything in the session.
    pub fn kill(&self) {
        self.taken.process_one.kill();
    }
}
