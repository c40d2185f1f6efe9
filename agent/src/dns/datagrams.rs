//! One UDP socket of the resolver: queries come in batches, one system call and one look at who asks
//! for many; each reply leaves at once, so that its asker goes on while the next is written.
//!
//! What is known is answered without leaving the task. Knows sockets, no names.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use common::flow::UDP;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use tokio::{io::Interest, net::UdpSocket, sync::watch};

use super::{
    flight::{Flights, Lost, Outlet},
    query::QUERY_BYTES_MAX,
    resolver::{Resolver, Source, Taken},
    server::PAUSE,
};

/// Datagrams that are taken in a row before other tasks have their turn.
const BATCH: usize = 32;

/// One UDP socket.
pub(super) struct Datagrams {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) flights: Arc<Flights>,
}

impl Datagrams {
    pub(super) async fn run(self, mut closed: watch::Receiver<bool>) {
        let mut inbox = Inbox::new();
        let mut reply = Vec::with_capacity(QUERY_BYTES_MAX);
        loop {
            let ready = tokio::select! {
                _ = closed.changed() => return,
                ready = self.socket.readable() => ready,
            };
            let received = ready.and_then(|()| self.receive(&mut inbox));
            let Ok(received) = received else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            self.answer(&inbox, &mut reply);
            if received == BATCH {
                // More is waiting, and so may be others.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes what has come, a batch at most.
    fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        inbox.received.clear();
        let taken = self.socket.try_io(Interest::READABLE, || {
            inbox.fill(&self.socket)?;
            if inbox.received.len() < BATCH {
                // The kernel has just been asked for one more and had none: the next to come wakes
                // this task, and needs no look that finds nothing.
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match taken {
            // An asker that has gone left an ICMP message: not about the next datagram.
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionRefused
                ) =>
            {
                Err(error)
            }
            _ => Ok(inbox.received.len()),
        }
    }

    fn answer(&self, inbox: &Inbox, reply: &mut Vec<u8>) {
        let mut known = None;
        for (query, from) in inbox.queries() {
            let source = Source {
                address: from,
                protocol: UDP,
            };
            // All that has been received was there before the first look: who had this source then
            // has it for all of them.
            let who = match &known {
                Some((asker, who)) if *asker == from => who,
                _ => &known.insert((from, self.resolver.identify(source))).1,
            };
            match self.resolver.take_of(who, query, UDP, reply) {
                Taken::Silent => {}
                // A full socket loses the reply, as the net may: askers ask again.
                Taken::Replied => {
                    if self.socket.try_send_to(reply, from).is_err() {
                        self.resolver.counters.replies_lost.add();
                    }
                }
                Taken::Ask(waiter) => {
                    let outlet = Datagram {
                        socket: Arc::clone(&self.socket),
                        to: from,
                    };
                    self.flights.board(*waiter, Box::new(outlet));
                }
            }
        }
    }
}

/// Datagrams that were received together.
struct Inbox {
    /// One byte more than a query may have: what fills it is too long.
    buffers: Vec<[u8; QUERY_BYTES_MAX + 1]>,
    /// Length and source of each.
    received: Vec<(usize, SocketAddr)>,
}

impl Inbox {
    fn new() -> Self {
        Self {
            buffers: vec![[0; QUERY_BYTES_MAX + 1]; BATCH],
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Takes until there is no more, or no room.
    fn fill(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let mut slices: Vec<_> = self
            .buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        // Full of pointers, so that no task may keep them from one call to the next.
        let mut headers: MultiHeaders<SockaddrStorage> = MultiHeaders::preallocate(BATCH, None);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let messages = recvmmsg(fd, &mut headers, slices.iter_mut(), flags, None)?;
        self.received.extend(messages.map(|message| {
            let from = message.address.as_ref().and_then(address);
            // A datagram without a source can not be answered; no worker has port 0.
            (message.bytes, from.unwrap_or(SocketAddr::from(([0; 4], 0))))
        }));
        Ok(())
    }

    fn queries(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let all = self.buffers.iter().zip(&self.received);
        all.map(|(buffer, (length, from))| (buffer.get(..*length).unwrap_or_default(), *from))
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddrV6::from(*v6).into())
}

/// Where a datagram came from.
struct Datagram {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Outlet for Datagram {
    fn send(self: Box<Self>, reply: &[u8]) -> Result<(), Lost> {
        match self.socket.try_send_to(reply, self.to) {
            Ok(_) => Ok(()),
            Err(_full) => Err(Lost),
        }
    }
}
