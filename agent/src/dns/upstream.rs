//! Questions to the host's resolvers: transport by `hickory-resolver` (random ids, ports and letter
//! case over UDP, TCP for what is truncated, or TLS), patience and aliases by us.
//!
//! Knows no sessions and no policies: what comes here may be asked.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{DnsRequestOptions, Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts},
    net::{
        DnsError, DnsHandle, NetError, NoRecords, runtime::TokioRuntimeProvider, xfer::FirstAnswer,
    },
};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{Answer, Chain, Step},
    certificate::{self, LastRefused},
    error::{AskError, Error},
    gate::{self, Question},
    resolv_conf::{self, Stamp},
    session::lock,
    settings::{TlsServer, Upstream},
};

/// Time for a question with all its aliases. A client library waits 5 s (resolv.conf(5), `timeout`).
pub const PATIENCE: Duration = Duration::from_millis(3_800);
/// Time for one try: two fit into the patience.
const ONE_TRY: Duration = Duration::from_millis(1_800);
/// Tries of one question, each with every server.
const TRIES: usize = 2;
/// Servers that are asked at once, so that a dead one costs no time.
const AT_ONCE: usize = 2;
/// Questions on one TCP or TLS connection at once.
const PER_CONNECTION: usize = 256;
/// Bytes of an answer over UDP: what no path fragments (RFC 9715).
const UDP_BYTES: u16 = 1_232;
/// How often the host's resolv.conf is looked at.
const LOOK: Duration = Duration::from_secs(1);

const _: () = assert!(ONE_TRY.as_millis() * TRIES as u128 <= PATIENCE.as_millis());

type Pool = NameServerPool<TokioRuntimeProvider>;

/// The servers upstream.
pub(super) struct Servers {
    upstream: Upstream,
    current: Mutex<Current>,
    /// The certificate that was not believed.
    refused: LastRefused,
}

struct Current {
    pool: Option<Pool>,
    stamp: Option<Stamp>,
    looked: Option<Instant>,
}

impl Servers {
    pub(super) fn new(upstream: Upstream) -> Result<Self, Error> {
        let refused = LastRefused::default();
        let pool = match &upstream {
            Upstream::ResolvConf(_) => None,
            Upstream::Plain(servers) => plain(servers)?,
            Upstream::Tls { servers, roots } => {
                over_tls(servers, certificate::client(roots, &refused)?)?
            }
        };
        let current = Mutex::new(Current {
            pool,
            stamp: None,
            looked: None,
        });
        Ok(Self {
            upstream,
            current,
            refused,
        })
    }

    /// Asks, follows aliases, gives up in time.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, AskError> {
        let deadline = Instant::now() + PATIENCE;
        let mut name = Name::from_ascii(question.name.as_str())?;
        name.set_fqdn(true);
        let record = RecordType::from(gate::number(question.record));
        let mut chain = Chain::new(name, record);
        // Every step adds an alias or ends, and the chain bounds them.
        loop {
            let heard = self.try_twice(&chain, deadline).await?;
            let step = match heard {
                Heard::Message(message) => chain.take(&message)?,
                Heard::Nothing { exists, ttl } => Step::Done(chain.nothing(exists, ttl)),
            };
            match step {
                Step::Done(answer) => return Ok(answer),
                Step::Follow(next) => chain = next,
            }
        }
    }

    /// Whether a server answers: it is asked for the name servers of the root, which every resolver
    /// knows and which tell it nothing.
    pub(super) async fn reach(&self) -> Result<(), AskError> {
        let chain = Chain::new(Name::root(), RecordType::NS);
        let heard = self.try_twice(&chain, Instant::now() + PATIENCE).await;
        heard.map(|_whatever| ())
    }

    async fn try_twice(&self, chain: &Chain, deadline: Instant) -> Result<Heard, AskError> {
        let mut last = AskError::TimedOut;
        for _ in 0..TRIES {
            // Asked for anew: the host's servers may have changed between.
            let pool = self.pool().ok_or(AskError::NoServer)?;
            let asked = timeout_at(deadline, once(&pool, chain)).await;
            match asked {
                Ok(Ok(heard)) => return Ok(heard),
                Ok(Err(error)) => last = self.told(error),
                Err(_elapsed) => return Err(last),
            }
        }
        Err(last)
    }

    /// The transport says of a handshake only that there is no connection.
    fn told(&self, error: NetError) -> AskError {
        match (&error, lock(&self.refused).take()) {
            (NetError::NoConnections | NetError::Io(_), Some(why)) => AskError::Certificate(why),
            (_, _) => error.into(),
        }
    }

    /// The servers as they stand.
    fn pool(&self) -> Option<Pool> {
        let mut current = lock(&self.current);
        if let Upstream::ResolvConf(path) = &self.upstream {
            let now = Instant::now();
            if current.looked.is_none_or(|looked| now >= looked + LOOK) {
                current.looked = Some(now);
                current.look(path);
            }
        }
        current.pool.clone()
    }
}

impl Current {
    /// Reads the file again where it is not the one that was read.
    fn look(&mut self, path: &Path) {
        let stamp = resolv_conf::stamp(path);
        if stamp == self.stamp && self.pool.is_some() {
            return;
        }
        match resolv_conf::servers(path).map(|servers| plain(&servers)) {
            Ok(Ok(pool)) => {
                self.pool = pool;
                self.stamp = stamp;
            }
            // A file that is being replaced is there again at the next look; until then the servers
            // that were known serve on.
            Ok(Err(error)) => tracing::warn!(%error, "upstream servers are not usable"),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "resolv.conf can not be read");
            }
        }
    }
}

/// What a server said.
enum Heard {
    Message(Message),
    /// There is nothing, and for how long that is good.
    Nothing {
        exists: bool,
        ttl: Option<u32>,
    },
}

async fn once(pool: &Pool, chain: &Chain) -> Result<Heard, NetError> {
    let query = Query::query(chain.name().clone(), chain.record());
    let mut options = DnsRequestOptions::default();
    options.edns_payload_len = UDP_BYTES;
    match pool.lookup(query, options).first_answer().await {
        Ok(response) => Ok(Heard::Message(response.into_message())),
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: code @ (ResponseCode::NoError | ResponseCode::NXDomain),
            negative_ttl,
            ..
        }))) => Ok(Heard::Nothing {
            exists: code == ResponseCode::NoError,
            ttl: negative_ttl,
        }),
        Err(error) => Err(error),
    }
}

fn plain(servers: &[SocketAddr]) -> Result<Option<Pool>, Error> {
    let servers = servers
        .iter()
        .map(|address| server(address, ProtocolConfig::Udp, Some(ProtocolConfig::Tcp)));
    Ok(pool(servers.collect(), TlsConfig::new()?))
}

fn over_tls(servers: &[TlsServer], client: ClientConfig) -> Result<Option<Pool>, Error> {
    let mut tls = TlsConfig::new()?;
    tls.config = client;
    let servers = servers.iter().map(|known| {
        let server_name = Arc::from(known.name.as_str());
        server(&known.address, ProtocolConfig::Tls { server_name }, None)
    });
    Ok(pool(servers.collect(), tls))
}

fn server(
    address: &SocketAddr,
    first: ProtocolConfig,
    second: Option<ProtocolConfig>,
) -> NameServerConfig {
    let connections = [Some(first), second].into_iter().flatten().map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.collect())
}

fn pool(servers: Vec<NameServerConfig>, tls: TlsConfig) -> Option<Pool> {
    if servers.is_empty() {
        return None;
    }
    let mut options = ResolverOpts::default();
    options.timeout = ONE_TRY;
    options.case_randomization = true;
    options.num_concurrent_reqs = AT_ONCE;
    options.max_active_requests = PER_CONNECTION;
    options.edns_payload_len = UDP_BYTES;
    let context = Arc::new(PoolContext::new(options, tls));
    Some(NameServerPool::from_config(
        servers,
        context,
        TokioRuntimeProvider::default(),
    ))
}
