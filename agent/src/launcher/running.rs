//! A session that runs.

use std::{io, os::fd::OwnedFd, sync::Arc};

use common::id::SessionId;
use nix::libc;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Interest, unix::AsyncFd},
    net::unix::pipe,
};

use super::{
    client::Template,
    error::LaunchError,
    protocol::{self, Status},
};
use crate::{
    sandbox::{Enforced, error::StepError, output::Left, uids::SessionUid},
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
    status: BufReader<pipe::Receiver>,
    /// The part of a line that was read; kept here so that a dropped wait loses nothing.
    line: Vec<u8>,
    exit: Option<Exit>,
    process_one: ProcessOne,
    /// What the worker leaves, where its policy hands that out.
    left: Option<Left>,
    // After process 1: a number rests only when nothing runs under it.
    _uid: SessionUid,
    _template: Arc<Template>,
}

/// Process 1 of the session; killed, and everything in its namespace with it, when dropped.
#[derive(Debug)]
struct ProcessOne(AsyncFd<OwnedFd>);

impl ProcessOne {
    fn kill(&self) {
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
    /// Waits until the worker's program was executed.
    pub(super) async fn started(
        session: SessionId,
        uid: SessionUid,
        status: OwnedFd,
        pidfd: OwnedFd,
        left: Option<Left>,
        enforced: Enforced,
        template: Arc<Template>,
    ) -> Result<Self, LaunchError> {
        let process_one = sys::readiness::watch(pidfd, Interest::READABLE)
            .map(ProcessOne)
            .map_err(LaunchError::Lost)?;
        let status = pipe::Receiver::from_owned_fd(status).map_err(LaunchError::Lost)?;
        let mut running = Self {
            session,
            enforced,
            status: BufReader::new(status),
            line: Vec::new(),
            exit: None,
            process_one,
            left,
            _uid: uid,
            _template: template,
        };
        match running.next_status().await.map_err(LaunchError::Lost)? {
            Some(Status::Started) => Ok(running),
            Some(Status::Failed(error)) => Err(LaunchError::Step(error)),
            Some(Status::Exited(_) | Status::Signalled(_)) => {
                Err(LaunchError::Lost(io::ErrorKind::InvalidData.into()))
            }
            None => Err(LaunchError::Lost(io::ErrorKind::UnexpectedEof.into())),
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
        let exit = match self.next_status().await? {
            Some(Status::Exited(code)) => Exit::Code(code),
            Some(Status::Signalled(signal)) => Exit::Signal(signal),
            Some(Status::Failed(error)) => return Err(supervision(&error)),
            Some(Status::Started) => return Err(io::ErrorKind::InvalidData.into()),
            // Process 1 was killed before it could tell, and everything with it.
            None => Exit::Signal(libc::SIGKILL),
        };
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Waits until process 1 and all that was in its namespace is gone, mounts included.
    pub async fn gone(&self) -> io::Result<()> {
        self.process_one.0.readable().await.map(drop)
    }

    /// What the worker leaves to be handed out; to be looked at when everything in the session is
    /// gone. Given once.
    pub fn take_left(&mut self) -> Option<Left> {
        self.left.take()
    }

    /// Sends a signal to the worker's process group.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::process::signal(&self.process_one.0, signal)
    }

    /// Kills everything in the session.
    pub fn kill(&self) {
        self.process_one.kill();
    }

    async fn next_status(&mut self) -> io::Result<Option<Status>> {
        self.status.read_until(b'\n', &mut self.line).await?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let status = protocol::decode(&self.line);
        self.line.clear();
        status.map(Some)
    }
}

fn supervision(error: &StepError) -> io::Error {
    io::Error::other(format!("session: step {:?}: {error}", error.step))
}
