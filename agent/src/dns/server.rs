//! The resolver's parts that listen: a thread for each UDP socket, a task for each TCP listener. Knows
//! sockets, no names.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

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
    flights: Arc<Flights>,
    own: Listening,
    /// By the cookie of their network namespace.
    others: HashMap<u64, Listening>,
}

/// What serves the sockets of one network namespace.
struct Listening {
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
    let own = Listening::start(&resolver, &flights, sockets, None)?;
    Ok(Server {
        resolver,
        flights,
        own,
        others: HashMap::new(),
    })
}

impl Listening {
    fn start(
        resolver: &Arc<Resolver>,
        flights: &Arc<Flights>,
        sockets: Sockets,
        netns: Option<u64>,
    ) -> Result<Self, Error> {
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
                resolver: Arc::clone(resolver),
                flights: Arc::clone(flights),
                netns,
            };
            threads.push(datagrams.start(Handle::current()).map_err(failed)?);
        }
        for socket in sockets.tcp {
            let listener = TcpListener::from_std(socket).map_err(failed)?;
            let connections = tcp::Connections {
                resolver: Arc::clone(resolver),
                flights: Arc::clone(flights),
                netns,
            };
            tasks.spawn(connections.run(listener, closed.clone()));
        }
        Ok(Self {
            closing,
            tasks,
            threads,
        })
    }

    async fn close(mut self) {
        self.closing.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        for thread in self.threads {
            thread.close().await;
        }
    }
}

/// What listened in a network namespace and was taken out.
#[must_use]
pub struct Retired(Listening);

impl Retired {
    /// Waits until nobody listens there any more.
    pub async fn close(self) {
        self.0.close().await;
    }
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

    /// Answers on the sockets of another network namespace too. Wants a runtime.
    pub fn add(&mut self, netns: u64, sockets: Sockets) -> Result<(), Error> {
        let listening = Listening::start(&self.resolver, &self.flights, sockets, Some(netns))?;
        self.others.insert(netns, listening);
        Ok(())
    }

    /// Takes out what listens in that network namespace.
    pub fn remove(&mut self, netns: u64) -> Option<Retired> {
        self.others.remove(&netns).map(Retired)
    }

    /// Stops to answer.
    pub async fn close(self) {
        self.own.close().await;
        for other in self.others.into_values() {
            other.close().await;
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
