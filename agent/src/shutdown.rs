//! When to stop: the signals that end the agent, told to every task that asks.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Tells every [`Stopping`] to stop. Dropping it tells so too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Becomes ready when the agent is to stop.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

/// What a signal asks of the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// SIGTERM, SIGINT, SIGQUIT: end.
    Stop,
    /// SIGHUP: read the policies again.
    Reload,
}

/// The agent's signals.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

/// A pair of the two ends.
#[must_use]
pub fn pair() -> (Stop, Stopping) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Stopping(receiver))
}

impl Stop {
    /// Tells everybody to stop.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Waits until it is time to stop.
    pub async fn wait(&mut self) {
        // An error means that the sender is gone, which means stop as well.
        drop(self.0.wait_for(|stop| *stop).await);
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_now(&self) -> bool {
        *self.0.borrow()
    }
}

impl Signals {
    /// Takes the signals over from their default actions.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next thing that is asked.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.quit.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
