//! One UDP socket of the resolver and the thread that serves it: queries come in batches, one system
//! call and one look at who asks for many; each reply leaves at once, so that its asker goes on while
//! the next is written.
//!
//! A thread of its own, because it waits in the receipt itself: a query of a worker that asks one
//! after the other costs two system calls besides the look, and no other task stands before it. What
//! is known is answered there; nothing there waits for anything else. Knows sockets, no names.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use common::flow::UDP;
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendto, setsockopt, sockopt},
};
use tokio::runtime::Handle;

use super::{
    flight::{Flights, Lost, Outlet},
    query::QUERY_BYTES_MAX,
    resolver::{Resolver, Source, Taken, Waiter},
    server::PAUSE,
};

/// Datagrams that are taken at once.
const BATCH: usize = 32;
/// Bytes of queries that may wait in the socket, as the kernel counts them: about 5,000 small ones,
/// so that what a flood brings while the thread is off its processor does not push out what others
/// ask. Taken only while they wait.
const RECEIVE_BYTES: usize = 4 << 20;
/// How long the end of a thread is waited for. It ends with its batch.
const END: Duration = Duration::from_secs(1);
const END_POLL: Duration = Duration::from_millis(1);

/// What serves one UDP socket.
pub(super) struct Datagrams {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) flights: Arc<Flights>,
}

/// A thread that serves. Dropped, it ends with what it is at.
pub(super) struct Serving {
    socket: Arc<UdpSocket>,
    closed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Datagrams {
    /// Begins to serve. Questions go upstream on this runtime.
    pub(super) fn start(self, runtime: Handle) -> io::Result<Serving> {
        self.socket.set_nonblocking(false)?;
        // With less it serves as well, but for floods; a container may not let it have more.
        if let Err(error) = setsockopt(&self.socket, sockopt::RcvBufForce, &RECEIVE_BYTES) {
            tracing::debug!(%error, "the resolver's socket keeps its size");
        }
        let socket = Arc::clone(&self.socket);
        let closed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&closed);
        let thread = thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                self.run(&seen);
            })?;
        Ok(Serving {
            socket,
            closed,
            thread,
        })
    }

    fn run(self, closed: &AtomicBool) {
        let mut inbox = Inbox::new();
        let mut reply = Vec::with_capacity(QUERY_BYTES_MAX);
        while !closed.load(Ordering::Acquire) {
            match inbox.fill(&self.socket) {
                Ok(()) if closed.load(Ordering::Acquire) => return,
                Ok(()) => self.answer(&inbox, &mut reply),
                Err(Errno::EINTR) => {}
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn answer(&self, inbox: &Inbox, reply: &mut Vec<u8>) {
        let mut known = None;
        let mut boarding = Vec::new();
        for (query, to) in inbox.queries() {
            let address = address(to);
            let source = Source {
                address,
                protocol: UDP,
            };
            // All that has been received was there before the first look: who had this source then
            // has it for all of them. It is forgotten with the batch.
            let who = match &known {
                Some((asker, who)) if *asker == address => who,
                _ => &known.insert((address, self.resolver.identify(source))).1,
            };
            match self.resolver.take_of(who, query, UDP, reply) {
                Taken::Silent => {}
                Taken::Replied => {
                    if send(&self.socket, reply, to).is_err() {
                        self.resolver.counters.replies_lost.add();
                    }
                }
                Taken::Ask(waiter) => boarding.push((waiter, *to)),
            }
        }
        if !boarding.is_empty() {
            self.board(boarding);
        }
    }

    /// Hands over what has to be asked upstream, all at once: to wake the runtime costs more than the
    /// rest of it.
    fn board(&self, boarding: Vec<(Box<Waiter>, SockaddrStorage)>) {
        let (flights, socket) = (Arc::clone(&self.flights), Arc::clone(&self.socket));
        // Ends by itself, and at once.
        drop(tokio::spawn(async move {
            for (waiter, to) in boarding {
                let socket = Arc::clone(&socket);
                flights.board(*waiter, Box::new(Datagram { socket, to }));
            }
        }));
    }
}

impl Serving {
    /// Ends it, and waits for that.
    pub(super) async fn close(self) {
        let waits = END.as_millis() / END_POLL.as_millis();
        for _ in 0..waits {
            self.wake();
            if self.thread.is_finished() {
                return;
            }
            tokio::time::sleep(END_POLL).await;
        }
        tracing::warn!("a thread of the resolver has not ended");
    }

    /// It sleeps in the receipt: a datagram from its own socket wakes it.
    fn wake(&self) {
        self.closed.store(true, Ordering::Release);
        if let Ok(own) = self.socket.local_addr() {
            let woken = send(&self.socket, &[], &SockaddrStorage::from(own));
            tracing::trace!(?woken, "a thread of the resolver ends");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.wake();
    }
}

/// Datagrams that were received together.
struct Inbox {
    /// One byte more than a query may have: what fills it is too long.
    buffers: Vec<[u8; QUERY_BYTES_MAX + 1]>,
    /// Each goes on with the length of the address that came last: those of one socket are equal.
    headers: MultiHeaders<SockaddrStorage>,
    /// Length of each, and where it came from.
    received: Vec<(usize, Option<SockaddrStorage>)>,
}

impl Inbox {
    fn new() -> Self {
        Self {
            buffers: vec![[0; QUERY_BYTES_MAX + 1]; BATCH],
            headers: MultiHeaders::preallocate(BATCH, None),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Waits for one, then takes what there is besides.
    fn fill(&mut self, socket: &UdpSocket) -> Result<(), Errno> {
        self.received.clear();
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [_; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().map(|buffer| &mut buffer[..]);
            [IoSliceMut::new(buffer.unwrap_or_default())]
        });
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_WAITFORONE);
        let messages = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None)?;
        self.received
            .extend(messages.map(|message| (message.bytes, message.address)));
        Ok(())
    }

    fn queries(&self) -> impl Iterator<Item = (&[u8], &SockaddrStorage)> {
        let all = self.buffers.iter().zip(&self.received);
        all.filter_map(|(buffer, (length, from))| {
            // What has no source can not be answered.
            Some((buffer.get(..*length)?, from.as_ref()?))
        })
    }
}

fn address(storage: &SockaddrStorage) -> SocketAddr {
    if let Some(v4) = storage.as_sockaddr_in() {
        return SocketAddrV4::from(*v4).into();
    }
    match storage.as_sockaddr_in6() {
        Some(v6) => SocketAddrV6::from(*v6).into(),
        // No worker has port 0.
        None => SocketAddr::from(([0; 4], 0)),
    }
}

/// Sends without waiting.
fn send(socket: &UdpSocket, bytes: &[u8], to: &SockaddrStorage) -> Result<(), Lost> {
    match sendto(socket.as_raw_fd(), bytes, to, MsgFlags::MSG_DONTWAIT) {
        Ok(_) => Ok(()),
        // A full socket loses the reply, as the net may: askers ask again.
        Err(_errno) => Err(Lost),
    }
}

/// Where a datagram came from.
struct Datagram {
    socket: Arc<UdpSocket>,
    to: SockaddrStorage,
}

impl Outlet for Datagram {
    fn send(self: Box<Self>, reply: &[u8]) -> Result<(), Lost> {
        send(&self.socket, reply, &self.to)
    }
}
