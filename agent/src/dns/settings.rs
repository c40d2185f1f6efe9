//! What an operator may set of the resolver, and the bounds that hold where nothing is set.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use common::flow::Address;

/// Where a host names its resolvers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where Debian and others keep the trusted authorities.
pub const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How the resolver works.
#[derive(Clone)]
pub struct Settings {
    /// Whom to ask.
    pub upstream: Upstream,
    /// What a name gets that no rule covers.
    pub refusal: Refusal,
    /// Bounds.
    pub limits: Limits,
    /// The addresses of this host: never in an answer, unless a door of the policy names them.
    pub is_local: IsLocal,
}

/// Whether an address is one of this host's.
pub type IsLocal = Arc<dyn Fn(&Address) -> bool + Send + Sync>;

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// The `nameserver` lines of a resolv.conf(5), read again when it changes. UDP, TCP for what is
    /// truncated.
    ResolvConf(PathBuf),
    /// These servers, over UDP, and TCP for what is truncated.
    Plain(Vec<SocketAddr>),
    /// These servers, over TLS (RFC 7858) and nothing else.
    Tls {
        /// The servers.
        servers: Vec<TlsServer>,
        /// PEM file with the trusted authorities.
        roots: PathBuf,
    },
}

/// A server that is asked over TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsServer {
    /// Where.
    pub address: SocketAddr,
    /// The name on its certificate.
    pub name: String,
}

/// What a name gets that no rule covers: the same for every type, so that a program does not take
/// one family's refusal for the other's absence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Refusal {
    /// `NXDOMAIN`: programs give up at once.
    #[default]
    NxDomain,
    /// `REFUSED`: says what happens; some programs try other servers first.
    Refused,
}

/// Bounds of the resolver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Queries of a session in a second, in the long run.
    pub queries_per_second: u32,
    /// Queries of a session at once after a pause.
    pub query_burst: u32,
    /// Queries of a session that wait for upstream.
    pub waiting_per_session: usize,
    /// Queries that wait for upstream, of all sessions.
    pub waiting: usize,
    /// Questions that are being asked upstream at once: each holds a few sockets.
    pub asking: usize,
    /// TCP connections of a session.
    pub connections_per_session: usize,
    /// TCP connections of all sessions.
    pub connections: usize,
    /// How long a TCP connection may be silent between queries, and how long one may take to come.
    pub connection_idle: Duration,
    /// Distinct names under wildcards that a session may ask for in a minute.
    pub names_per_minute: u32,
    /// Bytes of labels before the base of a wildcard, over the distinct names of a minute.
    pub label_bytes_per_minute: u32,
    /// Answers in the cache.
    pub cache_entries: usize,
    /// Bytes of the cache.
    pub cache_bytes: usize,
}

impl Limits {
    /// What holds where nothing is set.
    pub const DEFAULT: Self = Self {
        queries_per_second: 1_000,
        query_burst: 2_000,
        waiting_per_session: 64,
        waiting: 2_048,
        asking: 256,
        connections_per_session: 16,
        connections: 512,
        connection_idle: Duration::from_secs(10),
        names_per_minute: 120,
        label_bytes_per_minute: 4_096,
        cache_entries: 50_000,
        cache_bytes: 16 << 20,
    };
}

/// Queries over the rate of one session that are told so in a second. The rest gets no reply: what a
/// flood costs is then little more than its receipt.
pub(super) const REFUSALS_PER_SECOND: u32 = 1_000;

impl Limits {
    /// Queries of a session that get a reply in a second, in the long run: answers and refusals.
    #[must_use]
    pub const fn replies_per_second(&self) -> u32 {
        self.queries_per_second.saturating_add(REFUSALS_PER_SECOND)
    }

    /// The same at once after a pause.
    #[must_use]
    pub const fn replies_at_once(&self) -> u32 {
        self.query_burst.saturating_add(REFUSALS_PER_SECOND)
    }
}

const _: () = assert!(
    Limits::DEFAULT.waiting >= 8 * Limits::DEFAULT.waiting_per_session,
    "no handful of sessions fills the queue"
);
const _: () = assert!(
    Limits::DEFAULT.connections >= 8 * Limits::DEFAULT.connections_per_session,
    "no handful of sessions takes all connections"
);

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Default for Settings {
    /// The host's resolvers, `NXDOMAIN`, the default bounds; no address counts as this host's.
    fn default() -> Self {
        Self {
            upstream: Upstream::ResolvConf(PathBuf::from(RESOLV_CONF)),
            refusal: Refusal::default(),
            limits: Limits::DEFAULT,
            is_local: Arc::new(|_| false),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("upstream", &self.upstream)
            .field("refusal", &self.refusal)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
