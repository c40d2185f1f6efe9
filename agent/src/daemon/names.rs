//! The resolver among the other parts: who asks, what it may grant, who hears of refusals.

mod elsewhere;
mod port;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use common::{
    event::Hook,
    flow::{Address, DNS_PORT},
    id::SessionId,
    rule::PortRange,
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{Engine, error::chain};
use crate::{
    clock::BootTime,
    config::{self, Refusal, Upstreams},
    dns::{
        Answered, Asker, Askers, GrantRefused, Granter, IsLocal, Limits, PATIENCE, QueryEvent,
        RESOLV_CONF, Served, Server, Settings, Sockets, TlsServer, Upstream, Witness,
    },
    kernel::{
        Kernel,
        clients::{CLIENT_LIFE, Clients, Pace},
        grant::{GrantError, Grants},
    },
    observe::{event::Event, learned::Query, metrics::NameNumbers, name::shown},
    timestamp::Timestamp,
};

pub(super) use port::bind;

/// Between two looks for clients that are over: a source is known for not much longer than its life.
const CLIENTS_SWEEP: Duration = Duration::from_secs(3);
const _: () = assert!(
    CLIENT_LIFE.as_millis() > PATIENCE.as_millis() + 1_000,
    "an answer comes to who is known"
);
/// Sweeps of clients for each sweep of grants, whose ends lie minutes away.
const GRANTS_SWEEP_EVERY: u32 = 10;

/// The resolver's place in the engine.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) settings: config::Dns,
    pub(super) port: u16,
    pub(super) grants: Grants,
    pub(super) clients: Clients,
    server: Mutex<Option<Server>>,
}

/// What the resolver reaches the engine by. Weak: the resolver's tasks must not keep an engine alive
/// that is being closed.
#[derive(Clone)]
struct Doors {
    engine: Weak<Engine>,
    grants: Grants,
    clients: Clients,
}

impl Names {
    pub(super) fn new(settings: config::Dns, port: u16, kernel: &Kernel) -> Self {
        Self {
            settings,
            port,
            grants: kernel.grants(),
            clients: kernel.clients(),
            server: Mutex::default(),
        }
    }

    /// What it counted so far.
    pub(super) fn numbers(&self) -> NameNumbers {
        let server = self.server();
        let stats = server.as_ref().map(Server::stats).unwrap_or_default();
        NameNumbers {
            up: server.is_some(),
            unknown: stats.unknown,
            cache_hits: stats.cache_hits,
            cache_entries: stats.cache_entries as u64,
            cache_bytes: stats.cache_bytes as u64,
            upstream: stats.asked,
            upstream_failures: stats.upstream_failures,
            waiting: stats.waiting as u64,
            events_suppressed: stats.events_suppressed,
            replies_lost: stats.replies_lost,
            grants: self.grants.count() as u64,
            grants_refused: self.grants.refused(),
        }
    }

    /// Whom it asks, for people.
    pub(super) fn upstreams(&self) -> String {
        let servers = match &self.settings.upstreams {
            Upstreams::Host => return RESOLV_CONF.to_owned(),
            Upstreams::Servers(servers) => servers.iter().map(ToString::to_string),
        };
        let servers = servers.collect::<Vec<_>>().join(", ");
        match &self.settings.tls {
            Some(name) => format!("{servers} over TLS ({name})"),
            None => servers,
        }
    }

    /// Forgets what was counted of a session. Its grants go with the last of its sockets.
    pub(super) fn forget(&self, session: SessionId) {
        if let Some(server) = &*self.server() {
            server.forget(session);
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        // It is only ever put in or taken out whole.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Begins to answer, then sends workers there: nobody is sent where nobody answers.
    pub(super) fn answer_names(
        self: &Arc<Self>,
        sockets: Sockets,
    ) -> Result<(), super::StartError> {
        let names = &self.names;
        let doors = Arc::new(Doors {
            engine: Arc::downgrade(self),
            grants: names.grants.clone(),
            clients: names.clients.clone(),
        });
        let locals = self.kernel.locals();
        let is_local: IsLocal = Arc::new(move |address: &Address| locals.holds(*address));
        let settings = settings(&names.settings, is_local);
        // The rest would get no reply, and stand before what others ask.
        let limits = &settings.limits;
        let pace = Pace::new(limits.replies_per_second(), limits.replies_at_once());
        let server = crate::dns::serve(
            sockets,
            settings,
            Arc::clone(&doors) as Arc<dyn Askers>,
            Arc::clone(&doors) as Arc<dyn Granter>,
            doors as Arc<dyn Witness>,
        )?;
        *names.server() = Some(server);
        self.kernel.set_resolver(names.port, pace)?;
        port::keep(&self.instance.run_folder(), names.port);
        tracing::info!(
            resolver.port = names.port,
            resolver.upstreams = names.upstreams(),
            "names resolve"
        );
        Ok(())
    }

    /// Sends workers nowhere, then stops to answer: from here on names do not resolve, and the
    /// fence stands.
    pub(super) async fn silence_names(&self) {
        if let Err(error) = self.kernel.clear_resolver() {
            tracing::error!(error = chain(&error), "the resolver's port stays set");
        }
        let server = self.names.server().take();
        if let Some(server) = server {
            server.close().await;
        }
    }
}

/// Whom the resolver asks by this configuration.
#[must_use]
pub fn upstream(dns: &config::Dns) -> Upstream {
    match (&dns.upstreams, &dns.tls) {
        (Upstreams::Host, _) => Upstream::ResolvConf(PathBuf::from(RESOLV_CONF)),
        (Upstreams::Servers(servers), None) => Upstream::Plain(servers.clone()),
        (Upstreams::Servers(servers), Some(name)) => Upstream::Tls {
            servers: servers
                .iter()
                .map(|address| TlsServer {
                    address: *address,
                    name: name.clone(),
                })
                .collect(),
            roots: dns.tls_roots.clone(),
        },
    }
}

/// What the resolver is told of the configuration.
fn settings(dns: &config::Dns, is_local: IsLocal) -> Settings {
    Settings {
        upstream: upstream(dns),
        refusal: match dns.refusal {
            Refusal::Nxdomain => crate::dns::Refusal::NxDomain,
            Refusal::Refused => crate::dns::Refusal::Refused,
        },
        limits: Limits {
            queries_per_second: dns.queries_per_second,
            query_burst: dns.burst,
            names_per_minute: dns.wildcard_names_per_minute,
            label_bytes_per_minute: dns.wildcard_bytes_per_minute,
            ..Limits::DEFAULT
        },
        is_local,
    }
}

impl Askers for Doors {
    fn find(&self, source: SocketAddr, protocol: u16) -> Option<Asker> {
        let session = self
            .clients
            .find(source, protocol)
            .unwrap_or_else(|error| {
                tracing::warn!(error = chain(&error), "client of the resolver not read");
                None
            })?;
        self.again(session)
    }

    fn find_in(&self, netns: u64, source: SocketAddr, protocol: u16) -> Option<Asker> {
        let session = self
            .clients
            .find_in(netns, source, protocol)
            .unwrap_or_else(|error| {
                tracing::warn!(error = chain(&error), "client of the resolver not read");
                None
            })?;
        self.again(session)
    }

    fn again(&self, session: SessionId) -> Option<Asker> {
        let engine = self.engine.upgrade()?;
        // The policy that is in force now, not the one of the launch: a push holds at once.
        let id = engine.sessions.policy_of(session)?;
        let set = engine.policies.current();
        let loaded = set.policy(id)?;
        Some(Asker {
            session,
            policy: Arc::clone(&loaded.policy),
            generation: loaded.generation,
        })
    }
}

impl Granter for Doors {
    fn give(
        &self,
        session: SessionId,
        address: Address,
        ranges: &[PortRange],
        expires: BootTime,
    ) -> Result<(), GrantRefused> {
        // An answer may have been on its way when the session began to end.
        let alive = self.engine.upgrade();
        let alive = alive.is_some_and(|engine| engine.sessions.policy_of(session).is_some());
        if !alive {
            return Err(GrantRefused);
        }
        let given = self.grants.give(session, address, ranges, expires);
        given.map_err(|error| {
            match &error {
                GrantError::Full { .. } | GrantError::Map(_) => tracing::warn!(
                    session.id = session.0,
                    dst.ip = %address,
                    error = chain(&error),
                    "grant not given"
                ),
                GrantError::NoSession(_) => tracing::debug!(
                    session.id = session.0,
                    "grant not given: the session is over"
                ),
            }
            GrantRefused
        })
    }
}

impl Witness for Doors {
    fn saw(&self, event: QueryEvent) {
        if let Some(engine) = self.engine.upgrade() {
            engine.tell(query_event(event));
        }
    }

    fn answered(&self, answered: Answered<'_>) {
        let Some(engine) = self.engine.upgrade() else {
            return;
        };
        let query = Query {
            name: answered.question.name.as_str(),
            record: answered.question.record.word(),
            lacking: answered.observed.is_some(),
            addresses: answered.addresses,
        };
        let (tool, session) = (answered.policy.tool.as_str(), answered.session.0);
        engine.learned.query(tool, session, query, Timestamp::now());
    }

    fn served(&self, tool: &str, result: Served, duration: Duration) {
        if let Some(engine) = self.engine.upgrade() {
            engine.metrics.query(tool, result.label(), duration);
        }
    }
}

/// The event of a query, in the form of those that come from the kernel.
fn query_event(event: QueryEvent) -> Event {
    let QueryEvent {
        session,
        tool,
        name,
        record,
        outcome,
        reason,
        rule,
        address,
        took: _,
    } = event;
    Event {
        time: Timestamp::now().to_string(),
        session: Some(session.0),
        tool: Some(tool),
        outcome,
        reason,
        hook: Hook::Resolver,
        rule,
        // Harmless already; whatever else it should hold is made so.
        name: Some(harmless(&name)).filter(|name| !name.is_empty()),
        granted_for: None,
        record: Some(harmless(&record)).filter(|record| !record.is_empty()),
        protocol: 0,
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: DNS_PORT,
        local_port: 0,
        family: 0,
        socket_type: 0,
        pid: 0,
        cgroup: 0,
        suppressed: 0,
    }
}

/// The resolver spells odd bytes out as `\DDD`, in which nothing is left to be spelt but the
/// backslashes themselves.
fn harmless(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return text.to_owned();
    }
    shown(text.bytes())
}

/// Takes out clients and grants that are over, until the engine goes.
pub(super) async fn sweep(engine: Arc<Engine>) {
    let mut stopping = engine.stopping();
    let (clients, grants) = (engine.names.clients.clone(), engine.names.grants.clone());
    drop(engine);
    for round in 1_u32.. {
        tokio::select! {
            () = stopping.wait() => return,
            () = sleep(CLIENTS_SWEEP) => {}
        }
        let (clients, grants) = (clients.clone(), grants.clone());
        // Tables may be large: off the threads that serve everybody.
        let swept = spawn_blocking(move || {
            if round % GRANTS_SWEEP_EVERY == 0 {
                let ended = grants.sweep(BootTime::now());
                tracing::trace!(ended, "grants swept");
            }
            clients.sweep()
        });
        match swept.await {
            Ok(Ok(over)) => tracing::trace!(over, "clients of the resolver swept"),
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), "clients of the resolver not swept");
            }
            Err(error) => tracing::warn!(%error, "clients of the resolver not swept"),
        }
    }
}

#[cfg(test)]
mod tests;
