//! The resolver's parts that listen: a thread for each UDP socket, a task for each TCP listener. Knows
//! sockets, no names.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use common::id::SessionId;
use tokio::{net::TcpListener, runtime::Handle, sync::watch, task::JoinSet};

use super::{
    asker::{Askers, Witness},
    datagrams::{Datagrams, Serving},
    error::Error,
    flight::Flights,
    lease::Granter,
    resolver::Resolver,
    settings::Settings,
    sockets::Sockets,
    stats::Stats,
    tcp,
};

/// Pause after an error of a socket that is not about one datagram.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// A running resolver. Dropped, it ends.
pub struct Server {
    resolver: Arc<Resolver>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
    threads: Vec<Serving>,
}

/// Starts to answer, on threads of its own and on the current tokio runtime.
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
    let mut threads = Vec::new();
    for socket in sockets.udp {
        let datagrams = Datagrams {
            socket: Arc::new(socket),
            resolver: Arc::clone(&resolver),
            flights: Arc::clone(&flights),
        };
        threads.push(datagrams.start(Handle::current()).map_err(failed)?);
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
        threads,
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
        for thread in self.threads {
            thread.close().await;
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
