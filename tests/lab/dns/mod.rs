//! The name server of the world: it answers for every name and every resolver's address there is,
//! as a zone says, and keeps what it was asked. A name that it was never asked has not left the host
//! by DNS.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hickory_proto::{op::Message, rr::RecordType};
use nix::sys::socket::{Shutdown, shutdown};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{datagram::Datagrams, netns::Netns};

pub mod reply;
pub mod zone;

pub use reply::{How, Reply};
use zone::Zone;

/// The address that an agent of a lab is told to ask.
pub const UPSTREAM: &str = "9.9.9.9:53";

/// The configuration of an agent that asks it, and nobody else.
pub const CONFIGURATION: &str = "[dns]\nupstreams = [\"9.9.9.9:53\"]\n";

const PORT: u16 = 53;
const QUESTION_BYTES: usize = 4096;

/// How a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// In a datagram.
    Udp,
    /// On a connection.
    Tcp,
    /// On a connection with TLS.
    Tls,
}

/// A question that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The name in lower case, without the last dot.
    pub name: String,
    /// Its record type.
    pub record: RecordType,
    /// How it came.
    pub over: Over,
    /// The address that was asked.
    pub server: IpAddr,
    /// Who asked.
    pub source: SocketAddr,
}

/// What the server does with every question, before its zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Answers.
    #[default]
    Well,
    /// Answers nothing.
    Dead,
    /// Answers after this time.
    Slow(Duration),
}

#[derive(Debug, Default)]
struct State {
    zone: Mutex<Zone>,
    asked: Mutex<Vec<Asked>>,
    health: Mutex<Health>,
    forgetful: AtomicBool,
    ended: AtomicBool,
}

/// The server; it ends with this value.
#[derive(Debug)]
pub struct NameServer {
    state: Arc<State>,
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Starts it on port 53 of every address of a namespace.
    pub fn start(netns: &Netns) -> Result<Self> {
        let mut server = Self {
            state: Arc::default(),
            listeners: Vec::new(),
            threads: Vec::new(),
        };
        let datagrams = netns.enter(|| Datagrams::bind(PORT, QUESTION_BYTES))??;
        let state = Arc::clone(&server.state);
        let receive = move || receive(datagrams, &state);
        server.threads.push(std::thread::spawn(receive));
        server.listen(netns, PORT, None)?;
        Ok(server)
    }

    /// Answers over TLS too, on this port of every address.
    pub fn add_tls(&mut self, netns: &Netns, port: u16, config: Arc<ServerConfig>) -> Result<()> {
        self.listen(netns, port, Some(config))
    }

    fn listen(&mut self, netns: &Netns, port: u16, tls: Option<Arc<ServerConfig>>) -> Result<()> {
        let listener = netns
            .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))?
            .with_context(|| format!("tcp port {port}"))?;
        self.listeners.push(listener.try_clone()?);
        let state = Arc::clone(&self.state);
        let accept = move || accept(&listener, tls.as_ref(), &state);
        self.threads.push(std::thread::spawn(accept));
        Ok(())
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }

    /// Whether it was ever asked for a name, or for one below it.
    pub fn knows_of(&self, name: &str) -> bool {
        let below = format!(".{name}");
        lock(&self.state.asked)
            .iter()
            .any(|asked| asked.name == name || asked.name.ends_with(&below))
    }

    /// Forgets what it was asked, and from now on keeps nothing of it: for measurements.
    pub fn forget(&self) {
        self.state.forgetful.store(true, Ordering::Relaxed);
        lock(&self.state.asked).clear();
    }

    /// Answers a name in a way of its own from now on.
    pub fn set(&self, name: &str, reply: Reply) {
        lock(&self.state.zone).set(name, reply);
    }

    /// What becomes of every question from now on.
    pub fn set_health(&self, health: Health) {
        *lock(&self.state.health) = health;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        for listener in &self.listeners {
            // Wakes `accept`; a listener that is already down is what is wanted.
            shutdown(listener.as_raw_fd(), Shutdown::Both).ok();
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Keeps the question and says what to answer, and when.
    fn answer(
        &self,
        question: &[u8],
        over: Over,
        server: IpAddr,
        source: SocketAddr,
    ) -> Option<(Vec<u8>, Duration)> {
        let message = Message::from_vec(question).ok()?;
        let query = message.queries.first()?;
        let name = query.name.to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.').to_owned();
        let record = query.query_type;
        if !self.forgetful.load(Ordering::Relaxed) {
            lock(&self.asked).push(Asked {
                name: name.clone(),
                record,
                over,
                server: server.to_canonical(),
                source: SocketAddr::new(source.ip().to_canonical(), source.port()),
            });
        }
        let health = *lock(&self.health);
        let slow = match health {
            Health::Dead => return None,
            Health::Well => Duration::ZERO,
            Health::Slow(time) => time,
        };
        let reply = lock(&self.zone).ask(&name, record);
        let late = reply.late + slow;
        Some((reply.bytes(&message, over != Over::Udp)?, late))
    }
}

fn receive(mut datagrams: Datagrams, state: &Arc<State>) {
    while !state.ended.load(Ordering::Relaxed) {
        let Some(datagram) = datagrams.receive() else {
            continue;
        };
        let (to, from) = (datagram.to, datagram.from);
        let Some((answer, late)) = state.answer(datagram.bytes, Over::Udp, to, from) else {
            continue;
        };
        let back = datagram.back;
        if late.is_zero() {
            back.send(&answer);
        } else {
            std::thread::spawn(move || {
                std::thread::sleep(late);
                back.send(&answer);
            });
        }
    }
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, state: &Arc<State>) {
    while let Ok((stream, source)) = listener.accept() {
        let (state, tls) = (Arc::clone(state), tls.cloned());
        // A peer that goes away, or does not like the certificate, is the ordinary end of a connection.
        std::thread::spawn(move || drop(serve(stream, tls, source, &state)));
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    source: SocketAddr,
    state: &State,
) -> std::io::Result<()> {
    let server = stream.local_addr()?.ip();
    stream.set_nodelay(true)?;
    let Some(config) = tls else {
        return frames(stream, Over::Tcp, server, source, state);
    };
    let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let stream = StreamOwned::new(session, stream);
    frames(stream, Over::Tls, server, source, state)
}

fn frames(
    mut stream: impl Read + Write,
    over: Over,
    server: IpAddr,
    source: SocketAddr,
    state: &State,
) -> std::io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        let Some((answer, late)) = state.answer(&question, over, server, source) else {
            // A server that does not answer keeps the connection and says nothing.
            continue;
        };
        std::thread::sleep(late);
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
        stream.flush()?;
    }
}
