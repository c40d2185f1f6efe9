//! Queries over TCP: frames with a length before them, many on one connection, answered as the
//! answers come (RFC 7766). Bounded in number, length and idle time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use common::flow::TCP;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    flight::{Flights, Lost, Outlet},
    query::QUERY_BYTES_MAX,
    resolver::{Resolver, Source, Taken},
    server::PAUSE,
};

/// How long a reply may take to be written: an asker that does not read is not waited for.
const WRITE: Duration = Duration::from_secs(5);
/// Replies that wait to be written on one connection.
const REPLIES_MAX: usize = 64;

/// Accepts connections.
pub(super) struct Connections {
    pub(super) resolver: Arc<Resolver>,
    pub(super) flights: Arc<Flights>,
    /// As in [`Source`].
    pub(super) netns: Option<u64>,
}

impl Connections {
    pub(super) async fn run(self, listener: TcpListener, mut closed: watch::Receiver<bool>) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = closed.changed() => return,
                Some(_) = open.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => self.admit(stream, from, &mut open),
                // Out of descriptors, or a connection that ended before it was taken.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Serves a connection of a known session within its bounds; any other is closed at once.
    fn admit(&self, stream: TcpStream, from: SocketAddr, open: &mut JoinSet<()>) {
        let source = Source {
            address: from,
            protocol: TCP,
            netns: self.netns,
        };
        let limits = &self.resolver.settings.limits;
        let Some(session) = self.resolver.session_of(source) else {
            self.resolver.counters.unknown.add();
            return;
        };
        let own = session.connections.take(limits.connections_per_session);
        let shared = self.resolver.connections.take(limits.connections);
        let (Some(own), Some(shared)) = (own, shared) else {
            self.resolver.counters.limited.add();
            return;
        };
        let (replies, written) = mpsc::channel(REPLIES_MAX);
        let (reading, writing) = stream.into_split();
        let connection = Connection {
            resolver: Arc::clone(&self.resolver),
            flights: Arc::clone(&self.flights),
            source,
            replies,
        };
        open.spawn(async move {
            let _places = (own, shared);
            // Either half ends the other: a broken stream is closed, whoever broke it.
            tokio::select! {
                () = connection.read(reading) => {}
                _ = write(writing, written) => {}
            }
        });
    }
}

struct Connection {
    resolver: Arc<Resolver>,
    flights: Arc<Flights>,
    source: Source,
    replies: mpsc::Sender<Vec<u8>>,
}

impl Connection {
    /// Reads queries until the asker ends, breaks the form or falls silent with nothing outstanding.
    async fn read(self, mut stream: OwnedReadHalf) {
        let mut query = Vec::new();
        let mut reply = Vec::new();
        let idle = self.resolver.settings.limits.connection_idle;
        loop {
            match timeout(idle, frame(&mut stream, &mut query)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break,
                Ok(Err(_)) => return,
                Err(_idle) if self.is_idle() => return,
                Err(_idle) => break,
            }
            match self.resolver.take(&query, self.source, &mut reply) {
                Taken::Silent => return,
                Taken::Replied => {
                    if self.replies.send(reply.clone()).await.is_err() {
                        return;
                    }
                }
                Taken::Ask(waiter) => {
                    let outlet = Reply(self.replies.clone());
                    self.flights.board(*waiter, Box::new(outlet));
                }
            }
        }
        // No more queries; what was asked is still answered. The writer ends when the last
        // outlet is gone, and that ends this connection.
        drop(self);
        std::future::pending::<()>().await;
    }

    /// Whether nothing waits and nothing is to be written.
    fn is_idle(&self) -> bool {
        self.replies.strong_count() == 1 && self.replies.capacity() == REPLIES_MAX
    }
}

/// Reads one frame. `false`: the stream ended between frames.
async fn frame(stream: &mut OwnedReadHalf, query: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let length = usize::from(u16::from_be_bytes(length));
    if length > QUERY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    query.resize(length, 0);
    stream.read_exact(query).await?;
    Ok(true)
}

/// Writes replies until nobody can send one any more.
async fn write(mut stream: OwnedWriteHalf, mut replies: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut framed = Vec::new();
    while let Some(reply) = replies.recv().await {
        let Ok(length) = u16::try_from(reply.len()) else {
            continue;
        };
        framed.clear();
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&reply);
        timeout(WRITE, stream.write_all(&framed)).await??;
    }
    stream.shutdown().await
}

/// The way back to a connection.
struct Reply(mpsc::Sender<Vec<u8>>);

impl Outlet for Reply {
    fn send(self: Box<Self>, reply: &[u8]) -> Result<(), Lost> {
        match self.0.try_send(reply.to_vec()) {
            Ok(()) => Ok(()),
            Err(_gone) => Err(Lost),
        }
    }
}
