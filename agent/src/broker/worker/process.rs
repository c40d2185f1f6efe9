//! A worker's process and its three streams.

use std::{
    future::poll_fn,
    os::fd::OwnedFd,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::unix::pipe,
    runtime::{self, Handle},
    sync::oneshot,
    time::timeout,
};

use super::{Bounds, Ended, Failure, Fenced, Order, errors, lines::Lines};
use crate::{
    audit::Caller,
    broker::{Host, reason::Reason},
    policy::compiled::CompiledPolicy,
};

/// How long a worker that is not needed any more has to end by itself.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// A worker in its fence. Dropping it ends it at once; [`Process::leave`] lets it go by itself.
pub(in crate::broker) struct Process {
    session: u64,
    started: Instant,
    /// The runtime that watches its streams.
    home: runtime::Id,
    input: Option<pipe::Sender>,
    output: Lines,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Ended>,
    /// Its end, once that was told: it is told once, and asked for more often.
    told: Option<Ended>,
}

impl Process {
    /// Starts a worker. It lives in `runtime`, which outlives every call; its streams are watched by the
    /// one of the caller.
    pub(in crate::broker) async fn start(
        (host, runtime): (&dyn Host, &Handle),
        policy: &Arc<CompiledPolicy>,
        caller: Caller,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::before(Reason::LaunchFailed, error);
        let (worker_in, input) = std::io::pipe().map_err(failed)?;
        let (output, worker_out) = std::io::pipe().map_err(failed)?;
        let (errors, worker_err) = std::io::pipe().map_err(failed)?;
        let input = pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(failed)?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(failed)?;
        let errors = {
            let _there = runtime.enter();
            pipe::Receiver::from_owned_fd(OwnedFd::from(errors)).map_err(failed)?
        };
        let order = Order {
            policy: Arc::clone(policy),
            caller,
            stdio: [worker_in.into(), worker_out.into(), worker_err.into()],
        };
        let Fenced {
            session,
            stop,
            ended,
        } = within(runtime, host.launch(order)).await?;
        runtime.spawn(errors::to_log(session, policy.tool.to_string(), errors));
        Ok(Self {
            session,
            started: Instant::now(),
            home: Handle::current().id(),
            input: Some(input),
            output: Lines::new(output, bounds.bytes),
            stop,
            ended,
            told: None,
        })
    }

    /// Has its streams watched by the runtime of who asks it next: another one would have to be woken
    /// for each answer, and wake this one.
    pub(in crate::broker) fn come_here(&mut self) -> std::io::Result<()> {
        let here = Handle::current().id();
        if self.home != here {
            if let Some(input) = self.input.take() {
                self.input = Some(pipe::Sender::from_owned_fd(input.into_nonblocking_fd()?)?);
            }
            self.output.come_here()?;
            self.home = here;
        }
        Ok(())
    }

    /// Its session.
    pub(in crate::broker) fn session(&self) -> u64 {
        self.session
    }

    /// How long it has run.
    pub(in crate::broker) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether it still runs, as far as is known.
    pub(in crate::broker) fn is_alive(&mut self) -> bool {
        if self.told.is_some() {
            return false;
        }
        match self.ended.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return true,
            Err(oneshot::error::TryRecvError::Closed) => self.told = Some(untold()),
            Ok(ended) => self.told = Some(ended),
        }
        false
    }

    /// Writes everything. On an error nobody knows how much of it was read.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.input {
            Some(input) => input.write_all(bytes).await,
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The next line; nothing at the end.
    pub(super) async fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        self.output.next().await
    }

    /// Writes everything, ends its input, and reads its output to the end meanwhile: it may answer
    /// before it has read all.
    pub(super) async fn ask_once(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let input = self.input.take();
        let write = async move {
            if let Some(mut input) = input
                && let Err(error) = input.write_all(bytes).await
            {
                // It may answer without having read everything; the answer decides.
                tracing::debug!(%error, "worker did not read its request");
            }
            Ok(())
        };
        let ((), read) = tokio::try_join!(write, self.output.rest())?;
        Ok(read)
    }

    /// Waits until nothing of it is left.
    pub(super) async fn ended(&mut self) -> Ended {
        if let Some(told) = &self.told {
            return told.clone();
        }
        let ended = (&mut self.ended).await.unwrap_or_else(|_gone| untold());
        self.told = Some(ended.clone());
        ended
    }

    /// Ends its input and gives it some time to end by itself.
    pub(in crate::broker) fn leave(mut self) {
        self.input = None;
        tokio::spawn(async move {
            if timeout(LEAVE_TIME_MAX, self.ended()).await.is_err() {
                tracing::debug!(session.id = self.session, "worker did not leave by itself");
            }
            drop(self.stop);
        });
    }
}

/// The end of a worker of which nobody says anything any more.
fn untold() -> Ended {
    Ended::Badly("its end was not told".to_owned())
}

/// Waits for what belongs to another runtime: what it begins there outlives the one of the caller.
async fn within<F: Future>(runtime: &Handle, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _there = runtime.enter();
        work.as_mut().poll(context)
    })
    .await
}
