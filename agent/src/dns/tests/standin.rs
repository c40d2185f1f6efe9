//! An upstream server on loopback that says what a test wants, over UDP, TCP and TLS.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, OpCode},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::dns::session::lock;

/// How often a thread looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// What is said to one query: messages in order. None: silence.
type Script = Arc<dyn Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync>;

/// How a query came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    Udp,
    Stream,
}

/// A running server; its threads end with it.
pub(super) struct StandIn {
    pub(super) address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    script: Mutex<Script>,
    /// `name type` of each query, as it came.
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// Sockets of both protocols at one port. Where any will do, that of the one may be taken in the other by
/// a neighbour: then another is.
fn pair(address: SocketAddr) -> (UdpSocket, TcpListener) {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let udp = UdpSocket::bind(address).expect("a UDP socket");
        let same = udp.local_addr().expect("an address");
        match TcpListener::bind(same) {
            Ok(tcp) => return (udp, tcp),
            Err(error) => assert!(address.port() == 0, "a TCP socket: {error}"),
        }
    }
    panic!("no port that is free for both");
}

impl StandIn {
    pub(super) fn new(
        script: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), None, script)
    }

    pub(super) fn at(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = pair(address);
        let address = udp.local_addr().expect("an address");
        udp.set_read_timeout(Some(LOOK)).expect("a timeout");
        tcp.set_nonblocking(true)
            .expect("a socket that does not block");
        let inner = Arc::new(Inner {
            script: Mutex::new(Arc::new(script)),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let (one, two) = (Arc::clone(&inner), Arc::clone(&inner));
        if tls.is_none() {
            thread::spawn(move || one.datagrams(&udp));
        }
        thread::spawn(move || two.connections(&tcp, tls.as_ref()));
        Self { address, inner }
    }

    pub(super) fn say(
        &self,
        script: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) {
        *lock(&self.inner.script) = Arc::new(script);
    }

    /// What was asked, in lower case.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = lock(&self.inner.asked);
        asked.iter().map(|query| query.to_lowercase()).collect()
    }

    /// What was asked, in the letters that came.
    pub(super) fn asked_as_it_came(&self) -> Vec<String> {
        lock(&self.inner.asked).clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.inner.over.store(true, Ordering::Release);
    }
}

impl Inner {
    fn datagrams(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4_096];
        while !self.over.load(Ordering::Acquire) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            for reply in self.react(&buffer[..length], Over::Udp) {
                // An asker that is gone is the asker's business.
                drop(socket.send_to(&reply, from));
            }
        }
    }

    fn connections(self: &Arc<Self>, listener: &TcpListener, tls: Option<&Arc<ServerConfig>>) {
        while !self.over.load(Ordering::Acquire) {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(LOOK);
                continue;
            };
            stream.set_nonblocking(false).expect("a blocking stream");
            let (inner, tls) = (Arc::clone(self), tls.cloned());
            thread::spawn(move || match tls {
                None => inner.frames(stream),
                Some(config) => {
                    let session = ServerConnection::new(config).expect("a TLS session");
                    inner.frames(StreamOwned::<_, TcpStream>::new(session, stream));
                }
            });
        }
    }

    fn frames(&self, mut stream: impl Read + Write) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            for reply in self.react(&query, Over::Stream) {
                let length = u16::try_from(reply.len()).expect("a short reply");
                let framed = [&length.to_be_bytes()[..], &reply].concat();
                if stream.write_all(&framed).is_err() || stream.flush().is_err() {
                    return;
                }
            }
        }
    }

    fn react(&self, query: &[u8], over: Over) -> Vec<Vec<u8>> {
        let query = Message::from_vec(query).expect("our own query");
        let asked = &query.queries[0];
        lock(&self.asked).push(format!("{} {}", asked.name(), asked.query_type()));
        let script = Arc::clone(&lock(&self.script));
        script(&query, over)
    }
}

/// A reply without records.
pub(super) fn reply(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.iter().cloned());
    reply
}

/// A reply with these addresses, where they are of the type that was asked for. Written by hand, each
/// with a pointer to the question: `hickory-proto` stops compressing after some names, and thousands of
/// records fit into no message without.
pub(super) fn addresses(query: &Message, ttl: u32, addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    let mut bytes = reply(query).to_vec().expect("wire");
    let mut count = 0_u16;
    for address in addresses {
        let (record, data) = match address {
            IpAddr::V4(v4) => (RecordType::A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (RecordType::AAAA, v6.octets().to_vec()),
        };
        if record != query.queries[0].query_type() {
            continue;
        }
        count += 1;
        bytes.extend_from_slice(&[0xc0, 0x0c]);
        bytes.extend_from_slice(&u16::from(record).to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&[0, data.len().to_be_bytes()[7]]);
        bytes.extend_from_slice(&data);
    }
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    vec![bytes]
}

/// A reply with one alias.
pub(super) fn alias(query: &Message, target: &str) -> Vec<Vec<u8>> {
    let mut reply = reply(query);
    let target = Name::from_ascii(target).expect("a name");
    let data = RData::CNAME(CNAME(target));
    reply.add_answer(Record::from_rdata(
        query.queries[0].name().clone(),
        60,
        data,
    ));
    vec![reply.to_vec().expect("wire")]
}

/// Public addresses, as many as wanted.
pub(super) fn public(count: u8) -> Vec<IpAddr> {
    (1..=count)
        .map(|last| IpAddr::V4(Ipv4Addr::new(8, 8, 8, last)))
        .collect()
}

/// Whether a query is for addresses of version 4.
pub(super) fn is_a(query: &Message) -> bool {
    query.queries[0].query_type() == RecordType::A
}
