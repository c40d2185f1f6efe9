//! Servers of the world. Each listens on one port of every address; what it saw is kept by the
//! address that was dialled.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{Shutdown, shutdown};

use crate::{datagram::Datagrams, netns::Netns};

const CHUNK_BYTES: usize = 64 << 10;

/// What listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    /// Sends back what it reads.
    Echo(u16),
    /// Answers each HTTP request with a line that names the address which was dialled.
    Http(u16),
    /// Reads and throws away.
    Sink(u16),
    /// Accepts and closes.
    Discard(u16),
    /// Takes datagrams and never reads them.
    UdpSink(u16),
    /// Sends back each datagram from the address it was sent to.
    UdpEcho(u16),
}

/// What a lab has unless it is told otherwise.
pub const ORDINARY: &[Listener] = &[
    Listener::Echo(7),
    Listener::Echo(443),
    Listener::Echo(853),
    Listener::Echo(5432),
    Listener::Echo(8443),
    Listener::Echo(9000),
    Listener::Echo(53),
    Listener::Http(80),
    Listener::Http(8080),
    Listener::Sink(9),
    Listener::UdpEcho(7),
    Listener::UdpEcho(53),
    Listener::UdpEcho(443),
    Listener::UdpEcho(9000),
];

/// What one address and port has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Bytes of payload received.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<BTreeMap<SocketAddr, Seen>>,
    streams: Mutex<BTreeMap<u64, TcpStream>>,
    opened: AtomicU64,
    ended: AtomicBool,
}

/// The servers of a lab.
#[derive(Debug)]
pub struct Servers {
    state: Arc<State>,
    listeners: Vec<TcpListener>,
    sinks: Vec<UdpSocket>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts them in a namespace.
    pub fn start(netns: &Netns, wanted: &[Listener]) -> Result<Self> {
        let mut servers = Self {
            state: Arc::new(State::default()),
            listeners: Vec::new(),
            sinks: Vec::new(),
            threads: Vec::new(),
        };
        netns.enter(|| {
            wanted
                .iter()
                .try_for_each(|listener| servers.add(*listener))
        })??;
        Ok(servers)
    }

    fn add(&mut self, listener: Listener) -> Result<()> {
        let state = Arc::clone(&self.state);
        match listener {
            Listener::Echo(port) => self.add_tcp(port, echo),
            Listener::Http(port) => self.add_tcp(port, http),
            Listener::Sink(port) => self.add_tcp(port, sink),
            Listener::Discard(port) => {
                let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
                self.listeners.push(listener.try_clone()?);
                self.threads.push(std::thread::spawn(
                    move || {
                        while listener.accept().is_ok() {}
                    },
                ));
                Ok(())
            }
            Listener::UdpSink(port) => {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
                self.sinks.push(socket);
                Ok(())
            }
            Listener::UdpEcho(port) => {
                let datagrams = Datagrams::bind(port, CHUNK_BYTES)?;
                self.threads.push(std::thread::spawn(move || {
                    udp_echo(datagrams, port, &state);
                }));
                Ok(())
            }
        }
    }

    fn add_tcp(&mut self, port: u16, serve: Serve) -> Result<()> {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .with_context(|| format!("tcp port {port}"))?;
        self.listeners.push(listener.try_clone()?);
        let state = Arc::clone(&self.state);
        self.threads
            .push(std::thread::spawn(move || accept(&listener, serve, &state)));
        Ok(())
    }

    /// What one address and port has seen.
    pub fn seen(&self, address: SocketAddr) -> Seen {
        lock(&self.state.seen)
            .get(&address)
            .copied()
            .unwrap_or_default()
    }

    /// Everything that was seen, by address and port dialled.
    pub fn all(&self) -> BTreeMap<SocketAddr, Seen> {
        lock(&self.state.seen).clone()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        for listener in &self.listeners {
            // Wakes `accept`; a listener that is already down is what is wanted.
            shutdown(listener.as_raw_fd(), Shutdown::Both).ok();
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        for stream in lock(&self.state.streams).values() {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

type Serve = fn(&mut TcpStream, &mut dyn FnMut(usize)) -> std::io::Result<()>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl State {
    fn note(&self, local: SocketAddr, change: impl FnOnce(&mut Seen)) {
        change(lock(&self.seen).entry(local).or_default());
    }
}

fn accept(listener: &TcpListener, serve: Serve, state: &Arc<State>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let Ok(local) = stream.local_addr().map(canonical) else {
            continue;
        };
        state.note(local, |seen| seen.connections += 1);
        let number = state.opened.fetch_add(1, Ordering::Relaxed);
        if let Ok(copy) = stream.try_clone() {
            lock(&state.streams).insert(number, copy);
        }
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            // A peer that goes away is the ordinary end of a connection.
            drop(serve(&mut stream, &mut |bytes| {
                state.note(local, |seen| seen.bytes += bytes as u64);
            }));
            drop(stream.shutdown(std::net::Shutdown::Both));
            lock(&state.streams).remove(&number);
        });
    }
}

fn echo(stream: &mut TcpStream, note: &mut dyn FnMut(usize)) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        note(length);
        stream.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

fn sink(stream: &mut TcpStream, note: &mut dyn FnMut(usize)) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        note(length);
    }
}

fn http(stream: &mut TcpStream, note: &mut dyn FnMut(usize)) -> std::io::Result<()> {
    let local = canonical(stream.local_addr()?);
    let mut request = Vec::new();
    let mut buffer = vec![0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        note(length);
        request.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    let body = format!("hello from {local}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn udp_echo(mut datagrams: Datagrams, port: u16, state: &State) {
    while !state.ended.load(Ordering::Relaxed) {
        let Some(datagram) = datagrams.receive() else {
            continue;
        };
        state.note(SocketAddr::new(datagram.to, port), |seen| {
            seen.datagrams += 1;
            seen.bytes += datagram.bytes.len() as u64;
        });
        datagram.back.send(datagram.bytes);
    }
}
