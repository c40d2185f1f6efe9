//! One UDP socket of the resolver and who serves it: queries come in batches, one system call and one
//! look at who asks for many; each reply leaves at once, so that its asker goes on while the next is
//! written. Knows sockets, no names.
//!
//! A thread of its own receives, because it waits in the receipt itself: a query of a worker that asks
//! one after the other costs two system calls besides the look, and no other task stands before it.
//! What is known is answered there. A question that goes upstream would have to wake the runtime from
//! that thread, and so would each one after it: with the first the runtime takes over the receipt, and
//! gives it back when no question has gone upstream for a while.

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

use common::{flow::UDP, id::SessionId};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendto, setsockopt, sockopt},
};
use tokio::{
    io::Interest,
    runtime::Handle,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    flight::{Flights, Lost, Outlet},
    query::QUERY_BYTES_MAX,
    resolver::{Resolver, Source, Taken, Waiter},
    server::PAUSE,
};
use crate::sys::readiness;

/// Datagrams that are taken at once.
const BATCH: usize = 32;
/// Bytes of queries that may wait in the socket, as the kernel counts them: about 5,000 small ones,
/// so that what a flood brings while the thread is off its processor does not push out what others
/// ask. Taken only while they wait.
const RECEIVE_BYTES: usize = 4 << 20;
/// How long the runtime receives after the last question that went upstream.
const LINGER: Duration = Duration::from_millis(5);
/// How long the end of a thread is waited for. It ends with its batch.
const END: Duration = Duration::from_secs(1);
const END_POLL: Duration = Duration::from_millis(1);

/// What serves one UDP socket.
pub(super) struct Datagrams {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) flights: Arc<Flights>,
    /// As in [`Source`].
    pub(super) netns: Option<u64>,
}

/// A query that goes upstream, and where it came from.
type Boarding = (Box<Waiter>, SockaddrStorage);

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
                Arc::new(self).run(&runtime, &seen);
            })?;
        Ok(Serving {
            socket,
            closed,
            thread,
        })
    }

    fn run(self: Arc<Self>, runtime: &Handle, closed: &Arc<AtomicBool>) {
        let mut inbox = Inbox::default();
        let mut headers = headers();
        let mut reply = Vec::with_capacity(QUERY_BYTES_MAX);
        while !closed.load(Ordering::Acquire) {
            match inbox.fill(&self.socket, &mut headers, MsgFlags::MSG_WAITFORONE) {
                Ok(()) if closed.load(Ordering::Acquire) => return,
                Ok(()) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => {
                    thread::sleep(PAUSE);
                    continue;
                }
            }
            let boarding = self.answer(&inbox, &mut reply);
            if boarding.is_empty() {
                continue;
            }
            let (relay, closed) = (Arc::clone(&self), Arc::clone(closed));
            let relayed = runtime.spawn(relay.relay(inbox, boarding, closed));
            inbox = match runtime.block_on(relayed) {
                Ok(inbox) => inbox,
                Err(error) if error.is_panic() => Inbox::default(),
                // The runtime ends.
                Err(_) => return,
            };
        }
    }

    /// Receives on the runtime while questions go upstream.
    async fn relay(
        self: Arc<Self>,
        mut inbox: Inbox,
        boarding: Vec<Boarding>,
        closed: Arc<AtomicBool>,
    ) -> Inbox {
        self.board(boarding);
        // Only for now: the thread's receipts are not to wake the runtime.
        let Ok(socket) = readiness::watch(Arc::clone(&self.socket), Interest::READABLE) else {
            return inbox;
        };
        let mut reply = Vec::with_capacity(QUERY_BYTES_MAX);
        let mut looks = interval(LINGER);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = Instant::now();
        while asked.elapsed() < LINGER && !closed.load(Ordering::Acquire) {
            let ready = tokio::select! {
                biased;
                ready = socket.readable() => ready,
                _ = looks.tick() => continue,
            };
            let taken = ready.map(|mut ready| ready.try_io(|socket| inbox.take(socket.get_ref())));
            let is_full = match taken {
                Ok(Ok(Ok(()))) => true,
                Ok(Err(_would_block)) => false,
                // The thread sees it too, and waits.
                Ok(Ok(Err(_))) | Err(_) => break,
            };
            let boarding = self.answer(&inbox, &mut reply);
            if !boarding.is_empty() {
                asked = Instant::now();
                self.board(boarding);
            }
            if is_full {
                // More is waiting, and so may be other tasks.
                yield_now().await;
            }
        }
        inbox
    }

    /// Answers what is known; the rest has to go upstream.
    fn answer(&self, inbox: &Inbox, reply: &mut Vec<u8>) -> Vec<Boarding> {
        let mut known = None;
        let mut boarding = Vec::new();
        for (query, to) in inbox.queries() {
            let source = self.source(to);
            let address = source.address;
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
        boarding
    }

    fn source(&self, from: &SockaddrStorage) -> Source {
        Source {
            address: address(from),
            protocol: UDP,
            netns: self.netns,
        }
    }

    /// On the runtime: from elsewhere each question would wake it.
    fn board(&self, boarding: Vec<Boarding>) {
        for (waiter, to) in boarding {
            let outlet = Datagram {
                socket: Arc::clone(&self.socket),
                resolver: Arc::clone(&self.resolver),
                source: self.source(&to),
                session: waiter.session(),
                to,
            };
            self.flights.board(*waiter, Box::new(outlet));
        }
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
    /// Length of each, and where it came from.
    received: Vec<(usize, Option<SockaddrStorage>)>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: vec![[0; QUERY_BYTES_MAX + 1]; BATCH],
            received: Vec::with_capacity(BATCH),
        }
    }
}

impl Inbox {
    /// Takes a batch, waiting as the flags say.
    fn fill(
        &mut self,
        socket: &UdpSocket,
        headers: &mut MultiHeaders<SockaddrStorage>,
        flags: MsgFlags,
    ) -> Result<(), Errno> {
        self.received.clear();
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [_; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().map(|buffer| &mut buffer[..]);
            [IoSliceMut::new(buffer.unwrap_or_default())]
        });
        let messages = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
        self.received
            .extend(messages.map(|message| (message.bytes, message.address)));
        Ok(())
    }

    /// Takes what is there. `WouldBlock`: there was no more.
    fn take(&mut self, socket: &UdpSocket) -> io::Result<()> {
        // Full of pointers: no task may keep them from one receipt to the next.
        self.fill(socket, &mut headers(), MsgFlags::MSG_DONTWAIT)?;
        if self.received.len() < BATCH {
            // The kernel has just been asked for one more and had none.
            return Err(io::ErrorKind::WouldBlock.into());
        }
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

/// For one batch. Each goes on with the length of the address that came last: those of one socket are
/// equal.
fn headers() -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(BATCH, None)
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

/// Where a datagram came from, and whose it was.
struct Datagram {
    socket: Arc<UdpSocket>,
    resolver: Arc<Resolver>,
    source: Source,
    session: SessionId,
    to: SockaddrStorage,
}

impl Outlet for Datagram {
    fn send(self: Box<Self>, reply: &[u8]) -> Result<(), Lost> {
        // Upstream takes its time, and a port may be another session's by now.
        if !self.resolver.is_still(self.source, self.session) {
            return Err(Lost);
        }
        send(&self.socket, reply, &self.to)
    }
}
