//! The doors: what stands between the broker's socket and [`Broker::call`].
//!
//! They decide who may connect, how large and how slow a message may be, and what a message of each
//! protocol asks for. They know no token, no policy and no worker: every call and every list goes to
//! the [`Broker`], and what it answers is only put into the words of the protocol.

mod answer;
mod bell;
mod bind;
mod challenge;
mod desks;
mod entrance;
mod http;
mod lines;
mod mcp;
pub mod openapi;
mod page;
mod patient;
mod plain;
mod pulse;
pub mod rpc;
mod running;
mod seats;
mod streamable;

use std::{io, ops::Range, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, join},
    net::UnixListener,
    task::spawn_blocking,
    time::{sleep, timeout},
};

pub use bind::{BindError, bind, inherited};
pub use pulse::Pulse;

use super::{Broker, reason::Reason};
use crate::{
    audit::Caller,
    shutdown::Stopping,
    sys::wire::{Reader, Writer},
};
use patient::Patient;
use running::Running;
use seats::Seats;

/// Time a caller has for the first byte, and between messages while nothing of it runs.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// Time a message has to arrive, from its first byte to its last.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a caller may take nothing of an answer.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Time a caller has for the first byte of all.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read to learn the protocol.
const FIRST_BYTES: usize = 4_096;

const _: () = assert!(FRAME_TIMEOUT.as_secs() < IDLE_TIMEOUT.as_secs());

/// What the daemon tells the doors.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one uid.
    pub connections_of_uid: usize,
    /// Uids that sessions get: none of them may call.
    pub worker_uids: Range<u32>,
    /// Time limits.
    pub times: Times,
}

/// How long a caller may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For the first byte of all.
    pub first_byte: Duration,
    /// Between messages, while nothing runs.
    pub idle: Duration,
    /// For a message, from its first byte to its last.
    pub frame: Duration,
    /// Without taking anything of an answer.
    pub send: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            first_byte: FIRST_BYTE_TIMEOUT,
            idle: IDLE_TIMEOUT,
            frame: FRAME_TIMEOUT,
            send: SEND_TIMEOUT,
        }
    }
}

impl Settings {
    /// The usual bounds. `worker_uids` are those that sessions get, of whatever instance.
    #[must_use]
    pub fn new(worker_uids: Range<u32>) -> Self {
        Self {
            connections: 1_024,
            connections_of_uid: 512,
            worker_uids,
            times: Times::default(),
        }
    }
}

/// What every connection shares.
struct House {
    broker: Arc<Broker>,
    settings: Settings,
    /// Calls that came by HTTP and run.
    running: Arc<Running<streamable::Key>>,
    stopping: Stopping,
}

impl House {
    /// A refused message waits for its answer where its user had too many of them.
    async fn hold(&self, peer: Caller) {
        if let Some(penalty) = self.broker.penalty(peer) {
            self.pause(penalty).await;
        }
    }

    /// The same for an answer that the door gives to anybody.
    async fn give(&self, peer: Caller) {
        self.broker.gives(peer);
        self.hold(peer).await;
    }

    async fn pause(&self, time: Duration) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = stopping.wait() => {}
            () = sleep(time) => {}
        }
    }
}

/// Serves the socket until it is time to stop and all connections have ended. Calls that run then are
/// ended by the broker. Whoever holds the `pulse` sees whether it is served.
pub async fn serve(
    listener: UnixListener,
    broker: Arc<Broker>,
    settings: Settings,
    mut stopping: Stopping,
    pulse: Pulse,
) {
    let seats = Arc::new(Seats::new(
        settings.connections,
        settings.connections_of_uid,
    ));
    let house = Arc::new(House {
        broker,
        settings,
        running: Arc::default(),
        stopping: stopping.clone(),
    });
    let opened = listener.into_std().and_then(|listener| {
        let (desks, threads) = desks::open(&house)?;
        let ways = desks.ways();
        let entrance = entrance::open(listener, house, seats, desks)?;
        pulse.begins(ways, entrance.bell());
        Ok((entrance, threads))
    });
    let (mut entrance, threads) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            pulse.is_over();
            return tracing::error!(%error, "broker socket not served");
        }
    };
    tokio::select! {
        () = stopping.wait() => {}
        () = entrance.closed() => {
            pulse.is_over();
            tracing::error!("broker socket not served any more");
        }
    }
    drop(entrance);
    // The runtime does not end before it.
    if let Err(error) = spawn_blocking(|| threads.join()).await {
        tracing::debug!(%error, "broker connections not waited for");
    }
}

/// Learns the protocol from the first byte and serves it.
async fn connection(house: &Arc<House>, peer: Caller, (mut reader, writer): (Reader, Writer)) {
    let mut first = vec![0; FIRST_BYTES];
    let mut stopping = house.stopping.clone();
    let read = tokio::select! {
        () = stopping.wait() => return,
        read = timeout(house.settings.times.first_byte, reader.read(&mut first)) => read,
    };
    match read {
        Ok(Ok(0)) => return,
        Ok(Ok(bytes)) => first.truncate(bytes),
        Ok(Err(error)) => return tracing::debug!(%error, "broker connection ended early"),
        Err(_) => return house.broker.turned_away(peer, &Reason::FrameTooSlow.into()),
    }
    let is_lines = first.first() == Some(&b'{');
    let writer = Patient::new(writer, house.settings.times.send);
    let reader = io::Cursor::new(first).chain(reader);
    if is_lines {
        lines::serve(house, peer, reader, writer).await;
    } else {
        http::serve(house, peer, join(reader, writer)).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
