//! The resolver as a whole, between a worker and an upstream server of the test's own on loopback.

mod batches;
mod bounds;
mod changes;
mod floods;
mod hostile;
mod standin;
mod transport;
mod way;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use common::{
    flow::Address,
    id::{Generation, SessionId},
    rule::PortRange,
};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{net::UdpSocket, time::timeout};

use super::{
    Asker, Askers, GrantRefused, Granter, QueryEvent, Server, Settings, Sockets, Upstream, Witness,
    serve, session::lock,
};
use crate::{
    clock::BootTime,
    policy::{compile, compiled::CompiledPolicy},
};

const POLICY: &str = r#"
version = 1
tool = "fetcher"
[[egress.allow]]
domain = "api.example"
ports = [443]
[[egress.allow]]
domain = "*.cdn.example"
ports = [443]
[[egress.allow]]
domain = "mail.example"
ports = [8443]
records = ["A", "TXT"]
"#;

/// Longer than any reply takes.
const LATE: Duration = Duration::from_secs(10);

fn policy(text: &str) -> Arc<CompiledPolicy> {
    Arc::new(compile("fetcher.toml", text).expect("a policy"))
}

/// The daemon's side: who asks, who writes grants, who hears of refusals. A source of version 4 is
/// session 1, one of version 6 session 2.
struct Around {
    policy: Mutex<Arc<CompiledPolicy>>,
    generation: AtomicU32,
    nobody: AtomicBool,
    /// Whether the two sessions have changed their sources.
    changed: AtomicBool,
    /// Sessions that are over.
    over: Mutex<Vec<SessionId>>,
    full: AtomicBool,
    /// Whether a session ends when it is given a grant.
    ends_by_grant: AtomicBool,
    given: Mutex<Vec<(SessionId, IpAddr)>>,
    events: Mutex<Vec<QueryEvent>>,
}

impl Askers for Around {
    fn find(&self, source: SocketAddr, _protocol: u16) -> Option<Asker> {
        if self.nobody.load(Ordering::Acquire) {
            return None;
        }
        let is_first = source.is_ipv4() != self.changed.load(Ordering::Acquire);
        self.again(SessionId(if is_first { 1 } else { 2 }))
    }

    fn again(&self, session: SessionId) -> Option<Asker> {
        (!lock(&self.over).contains(&session)).then(|| Asker {
            session,
            policy: Arc::clone(&lock(&self.policy)),
            generation: Generation(self.generation.load(Ordering::Acquire)),
        })
    }
}

impl Granter for Around {
    fn give(
        &self,
        session: SessionId,
        address: Address,
        ranges: &[PortRange],
        _expires: BootTime,
    ) -> Result<(), GrantRefused> {
        if self.full.load(Ordering::Acquire) {
            return Err(GrantRefused);
        }
        assert!(!ranges.is_empty());
        lock(&self.given).push((session, IpAddr::from(address)));
        if self.ends_by_grant.load(Ordering::Acquire) {
            lock(&self.over).push(session);
        }
        Ok(())
    }
}

impl Witness for Around {
    fn saw(&self, event: QueryEvent) {
        lock(&self.events).push(event);
    }
}

/// A running resolver and what is around it.
struct Case {
    server: Server,
    port: u16,
    around: Arc<Around>,
}

impl Case {
    /// A resolver that asks one server.
    fn new(upstream: SocketAddr) -> Self {
        Self::with(Settings {
            upstream: Upstream::Plain(vec![upstream]),
            ..Settings::default()
        })
    }

    fn with(settings: Settings) -> Self {
        let around = Arc::new(Around {
            policy: Mutex::new(policy(POLICY)),
            generation: AtomicU32::new(1),
            nobody: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            over: Mutex::default(),
            full: AtomicBool::new(false),
            ends_by_grant: AtomicBool::new(false),
            given: Mutex::default(),
            events: Mutex::default(),
        });
        let sockets = Sockets::anywhere().expect("sockets");
        let port = sockets.port();
        let server = serve(
            sockets,
            settings,
            Arc::clone(&around) as Arc<dyn Askers>,
            Arc::clone(&around) as Arc<dyn Granter>,
            Arc::clone(&around) as Arc<dyn Witness>,
        )
        .expect("a resolver");
        Self {
            server,
            port,
            around,
        }
    }

    async fn ask(&self, name: &str, record: RecordType) -> Message {
        self.send(&query(name, record).to_vec().expect("wire"))
            .await
            .expect("a reply")
    }

    async fn code(&self, name: &str) -> ResponseCode {
        self.ask(name, RecordType::A).await.metadata.response_code
    }

    /// Sends bytes from a fresh socket; `None`: no reply.
    async fn send(&self, bytes: &[u8]) -> Option<Message> {
        self.send_from(IpAddr::V4(Ipv4Addr::LOCALHOST), bytes).await
    }

    async fn send_from(&self, ip: IpAddr, bytes: &[u8]) -> Option<Message> {
        let socket = UdpSocket::bind((ip, 0)).await.expect("a socket");
        let to = SocketAddr::new(ip, self.port);
        socket.send_to(bytes, to).await.expect("sent");
        let mut buffer = vec![0; 65_536];
        let received = timeout(LATE, socket.recv(&mut buffer)).await.ok()?;
        let length = received.expect("received");
        Some(Message::from_vec(&buffer[..length]).expect("a message"))
    }

    /// Puts another policy in force.
    fn push(&self, text: &str) {
        *lock(&self.around.policy) = policy(text);
        self.around.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn reasons(&self) -> Vec<&'static str> {
        let events = lock(&self.around.events);
        events.iter().map(|event| event.reason.label()).collect()
    }

    fn given(&self) -> Vec<(SessionId, IpAddr)> {
        lock(&self.around.given).clone()
    }
}

const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn query(name: &str, record: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, record));
    message
}

fn told(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}
