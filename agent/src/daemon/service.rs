//! What the service manager is told (`sd_notify(3)`), and the proof behind the watchdog's sign of life.
//! Without a service manager nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Engine, error::chain};

/// Signs of life in the time that the service manager waits for one: two may be late.
const SIGNS: u32 = 3;

/// When the next sign of life is due.
#[derive(Debug)]
pub struct Watchdog {
    /// None where nobody waits for a sign.
    pause: Option<Duration>,
    due: Instant,
}

impl Watchdog {
    /// As the service manager asks for it (`WATCHDOG_USEC`).
    #[must_use]
    pub fn asked() -> Self {
        Self {
            pause: sd_notify::watchdog_enabled().map(|time| time / SIGNS),
            due: Instant::now(),
        }
    }

    /// Waits until the next sign is due. Dropped and asked again, it waits for the same one.
    pub async fn due(&self) {
        match self.pause {
            Some(_) => sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }

    /// Gives the sign if the engine proves that it is alive. To be called by the loop that serves the
    /// agent's signals: that it runs is part of the proof.
    pub async fn look(&mut self, engine: &Engine) {
        let pause = self.pause.unwrap_or_default();
        match timeout(pause, engine.proves_life()).await {
            Ok(Ok(())) => tell(&[NotifyState::Watchdog, NotifyState::Status(&engine.state())]),
            Ok(Err(why)) => tracing::error!(why, "no sign of life"),
            Err(_elapsed) => tracing::error!(why = "no answer in time", "no sign of life"),
        }
        self.due = Instant::now() + pause;
    }
}

/// Everything stands: hooks, sockets, launcher.
pub fn ready(engine: &Engine) {
    tell(&[NotifyState::Ready, NotifyState::Status(&engine.state())]);
}

/// Policies are read again. [`ready`] says that they were.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_no_clock) => tell(&[NotifyState::Reloading]),
    }
}

/// The agent ends.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("no new sessions; waits for those that run"),
    ]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "service manager not told");
    }
}

impl Engine {
    /// Asks those without whom nothing is launched or recorded.
    async fn proves_life(&self) -> Result<(), String> {
        let answered = self.launcher.answers().await;
        answered.map_err(|error| format!("launcher: {}", chain(&error)))?;
        if !self.drain_events().await {
            return Err("events are not handed out".to_owned());
        }
        // They close first when the agent ends, be it while they are asked.
        let answered = self.doors.answers().await;
        if self.stopping.is_now() {
            return Ok(());
        }
        answered.map_err(|why| format!("broker: {why}"))
    }

    /// One line on how the engine is.
    fn state(&self) -> String {
        let ailments = self.ailments();
        let state = format!(
            "{} policies, {} sessions",
            self.policies.current().by_tool.len(),
            self.sessions.len()
        );
        match ailments.as_slice() {
            [] => state,
            [only] => format!("{state}; wrong: {only}"),
            [first, others @ ..] => format!("{state}; wrong: {first} (and {} more)", others.len()),
        }
    }
}
