//! Hands each event to whoever listens. A slow listener loses events, counted; nobody waits for it.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use super::event::Event;

/// Events that wait for the slowest listener before it loses the oldest.
pub const BACKLOG_MAX: usize = 1_024;

/// Where events go out.
#[derive(Clone, Debug)]
pub struct Dispatcher(broadcast::Sender<Arc<Event>>);

/// Where events come in.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Arc<Event>>);

/// What a listener gets.
#[derive(Debug)]
pub enum Received {
    /// The next event.
    Event(Arc<Event>),
    /// The listener was too slow: this many events are lost to it.
    Lost(u64),
    /// There will be no more.
    Closed,
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG_MAX))
    }
}

impl Dispatcher {
    /// Hands an event out.
    pub fn send(&self, event: Event) {
        // An error says that nobody listens.
        drop(self.0.send(Arc::new(event)));
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// A listener that gets every event from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

impl Subscription {
    /// Waits for the next event.
    pub async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Ok(event) => Received::Event(event),
            Err(RecvError::Lagged(lost)) => Received::Lost(lost),
            Err(RecvError::Closed) => Received::Closed,
        }
    }
}
