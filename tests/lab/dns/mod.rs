//! The name server of the world: it answers for every name and every resolver's address there is,
//! as a zone says, and keeps what it was asked. A name that it was never asked has not left the host
//! by DNS.

use std::{
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
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
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockaddrIn6, recvmsg, sendmsg,
    setsockopt, shutdown, sockopt,
};

use crate::netns::Netns;

pub mod reply;
pub mod zone;

pub use reply::{How, Reply};
use zone::Zone;

/// The address that an agent of a lab is told to ask.
pub const UPSTREAM: &str = "9.9.9.9:53";

/// The configuration of an agent that asks it, and nobody else.
pub const CONFIGURATION: &str = "[dns]\nupstreams = [\"9.9.9.9:53\"]\n";

const PORT: u16 = 53;
const WAKE: Duration = Duration::from_millis(50);
const QUESTION_BYTES: usize = 4096;
const QUEUE_BYTES: usize = 16 << 20;

/// A question that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The name in lower case, without the last dot.
    pub name: String,
    /// Its record type.
    pub record: RecordType,
    /// Whether it came over TCP.
    pub tcp: bool,
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
    listener: TcpListener,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Starts it on port 53 of every address of a namespace.
    pub fn start(netns: &Netns) -> Result<Self> {
        let state = Arc::new(State::default());
        let (socket, listener) = netns.enter(|| -> Result<_> {
            let any = (Ipv6Addr::UNSPECIFIED, PORT);
            let socket = UdpSocket::bind(any).context("udp port 53")?;
            socket.set_read_timeout(Some(WAKE))?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &QUEUE_BYTES)?;
            let listener = TcpListener::bind(any).context("tcp port 53")?;
            Ok((socket, listener))
        })??;
        let threads = vec![
            std::thread::spawn({
                let state = Arc::clone(&state);
                move || datagrams(&Arc::new(socket), &state)
            }),
            std::thread::spawn({
                let (state, listener) = (Arc::clone(&state), listener.try_clone()?);
                move || streams(&listener, &state)
            }),
        ];
        Ok(Self {
            state,
            listener,
            threads,
        })
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
        // Wakes `accept`; a listener that is already down is what is wanted.
        shutdown(self.listener.as_raw_fd(), Shutdown::Both).ok();
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
        tcp: bool,
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
                tcp,
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
        Some((reply.bytes(&message, tcp)?, late))
    }
}

fn datagrams(socket: &Arc<UdpSocket>, state: &Arc<State>) {
    let mut buffer = vec![0; QUESTION_BYTES];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
    while !state.ended.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let Ok(message) = recvmsg::<SockaddrIn6>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        ) else {
            continue;
        };
        let length = message.bytes;
        let information = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| {
                if let ControlMessageOwned::Ipv6PacketInfo(information) = one {
                    Some(information)
                } else {
                    None
                }
            })
        });
        let (Some(information), Some(peer)) = (information, message.address) else {
            continue;
        };
        let server = IpAddr::from(Ipv6Addr::from(information.ipi6_addr.s6_addr));
        let source = SocketAddr::from((peer.ip(), peer.port()));
        let question = buffer.get(..length).unwrap_or_default();
        let Some((answer, late)) = state.answer(question, false, server, source) else {
            continue;
        };
        let socket = Arc::clone(socket);
        let send = move || {
            // The answer is best effort, as datagrams are.
            sendmsg(
                socket.as_raw_fd(),
                &[IoSlice::new(&answer)],
                &[ControlMessage::Ipv6PacketInfo(&information)],
                MsgFlags::empty(),
                Some(&peer),
            )
            .ok();
        };
        if late.is_zero() {
            send();
        } else {
            std::thread::spawn(move || {
                std::thread::sleep(late);
                send();
            });
        }
    }
}

fn streams(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, source)) = listener.accept() {
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            // A peer that goes away is the ordinary end of a connection.
            drop(stream_of(stream, source, &state));
        });
    }
}

fn stream_of(mut stream: TcpStream, source: SocketAddr, state: &State) -> std::io::Result<()> {
    let server = stream.local_addr()?.ip();
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        let Some((answer, late)) = state.answer(&question, true, server, source) else {
            // A server that does not answer keeps the connection and says nothing.
            continue;
        };
        std::thread::sleep(late);
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        stream.write_all(&framed)?;
    }
}
