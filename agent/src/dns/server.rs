//! The resolver's tasks: one for each UDP socket, which answers what is known without leaving it,
//! and one for each TCP listener. Knows sockets, no names.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use common::{flow::UDP, id::SessionId};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::JoinSet,
};

use super::{
    asker::{Askers, Witness},
    error::Error,
    flight::{Flights, Lost, Outlet},
    lease::Granter,
    query::QUERY_BYTES_MAX,
    resolver::{Resolver, Source, Taken},
    settings::Settings,
    sockets::Sockets,
    stats::Stats,
    tcp,
};

/// Datagrams that are taken in a row before other tasks have their turn.
const BATCH: usize = 64;
/// Pause after an error of a socket that is not about one datagram.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// A running resolver. Dropped, it ends.
pub struct Server {
    resolver: Arc<Resolver>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Starts to answer, on the current tokio runtime.
pub fn serve(
    sockets: Sockets,
    settings: Settings,
    askers: Arc<dyn Askers>,
    granter: Arc<dyn Granter>,
    witness: Arc<dyn Witness>,
) -> Result<Server, Error> {
    let resolver = Arc::new(Resolver::new(settings, askers, granter, witness));
    let flights = Arc::new(Flights::new(Arc::clone(&resolver))?);
    let (closing, closed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let port = sockets.port();
    let failed = |source| Error::Socket {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        source,
    };
    for socket in sockets.udp {
        let datagrams = Datagrams {
            socket: Arc::new(UdpSocket::from_std(socket).map_err(failed)?),
            resolver: Arc::clone(&resolver),
            flights: Arc::clone(&flights),
        };
        tasks.spawn(datagrams.run(closed.clone()));
    }
    for socket in sockets.tcp {
        let listener = TcpListener::from_std(socket).map_err(failed)?;
        let connections = tcp::Connections {
            resolver: Arc::clone(&resolver),
            flights: Arc::clone(&flights),
        };
        tasks.spawn(connections.run(listener, closed.clone()));
    }
    Ok(Server {
        resolver,
        closing,
        tasks,
    })
}

impl Server {
    /// The numbers as they stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.resolver.stats()
    }

    /// Forgets a session that has ended.
    pub fn forget(&self, session: SessionId) {
        self.resolver.sessions.forget(session);
    }

    /// Stops to answer.
    pub async fn close(mut self) {
        self.closing.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// One UDP socket.
struct Datagrams {
    socket: Arc<UdpSocket>,
    resolver: Arc<Resolver>,
    flights: Arc<Flights>,
}

impl Datagrams {
    async fn run(self, mut closed: watch::Receiver<bool>) {
        // One byte more than a query may have: what fills it is too long.
        let mut query = vec![0; QUERY_BYTES_MAX + 1];
        let mut reply = Vec::with_capacity(QUERY_BYTES_MAX);
        loop {
            let ready = tokio::select! {
                _ = closed.changed() => return,
                ready = self.socket.readable() => ready,
            };
            if ready.is_err() || self.drain(&mut query, &mut reply).is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Answers what has come, a batch at most.
    fn drain(&self, query: &mut [u8], reply: &mut Vec<u8>) -> std::io::Result<()> {
        for _ in 0..BATCH {
            let (length, from) = match self.socket.try_recv_from(query) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                // An asker that has gone left an ICMP message: not about the next datagram.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let source = Source {
                address: from,
                protocol: UDP,
            };
            let bytes = query.get(..length).unwrap_or_default();
            match self.resolver.take(bytes, source, reply) {
                Taken::Silent => {}
                // A full socket loses the reply, as the net may: askers ask again.
                Taken::Replied => {
                    if self.socket.try_send_to(reply, from).is_err() {
                        self.resolver.counters.replies_lost.add();
                    }
                }
                Taken::Ask(waiter) => {
                    let outlet = Datagram {
                        socket: Arc::clone(&self.socket),
                        to: from,
                    };
                    self.flights.board(*waiter, Box::new(outlet));
                }
            }
        }
        Ok(())
    }
}

/// Where a datagram came from.
struct Datagram {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Outlet for Datagram {
    fn send(self: Box<Self>, reply: &[u8]) -> Result<(), Lost> {
        match self.socket.try_send_to(reply, self.to) {
            Ok(_) => Ok(()),
            Err(_full) => Err(Lost),
        }
    }
}
