//! `sock_diag(7)`: lists a namespace's TCP and UDP sockets with their BPF storage, and destroys
//! single ones.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use common::flow::{Address, TCP, UDP};
use nix::sys::socket::{SockFlag, SockProtocol};

use super::netlink::{self, ACK, DUMP, attributes, push_attribute, u16_at, u32_at};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const INET_DIAG_CGROUP_ID: u16 = 21;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `TCP_ESTABLISHED`: also the state of a connected UDP socket.
const ESTABLISHED: u8 = 1;
/// `TCP_LISTEN`
const LISTEN: u8 = 10;
/// Not `TCP_TIME_WAIT`, `TCP_SYN_RECV`, `TCP_NEW_SYN_RECV`: those have no socket of a process.
const STATES: u32 = !(1 << 6 | 1 << 3 | 1 << 12);
/// Bytes of `struct inet_diag_msg`.
const ANSWER: usize = 72;

/// One socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socket {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// TCP or UDP.
    pub protocol: u16,
    /// `enum tcp_state`
    pub state: u8,
    /// Its own end.
    pub local: Address,
    /// Its own port.
    pub local_port: u16,
    /// The other end; all zero where it is not connected.
    pub remote: Address,
    /// The other end's port, or 0.
    pub remote_port: u16,
    /// Device that it is bound to, or 0.
    pub device: u32,
    /// Its cookie.
    pub cookie: u64,
    /// Its number among files; 0 where no file stands for it.
    pub inode: u32,
    /// The cgroup in which it was made; `None` in the answer of an old kernel.
    pub cgroup: Option<u64>,
    /// The value in the socket storage that was asked for.
    pub storage: Option<Vec<u8>>,
}

impl Socket {
    /// Whether it has another end.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match self.protocol {
            TCP => self.state != LISTEN && self.remote_port != 0,
            _ => self.state == ESTABLISHED && self.remote_port != 0,
        }
    }
}

/// A connection to the `sock_diag` of one network namespace.
#[derive(Debug)]
pub struct Diag {
    socket: netlink::Socket,
}

impl Diag {
    /// Opens it in the calling thread's namespace, where it stays.
    pub fn open() -> io::Result<Self> {
        let socket = netlink::Socket::open(SockProtocol::NetlinkSockDiag, 0, SockFlag::empty())?;
        Ok(Self { socket })
    }

    /// Takes over one that was opened elsewhere, in another namespace.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        let socket = netlink::Socket::adopt(fd);
        Self { socket }
    }

    /// Its descriptor, to be handed on.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into_fd()
    }

    /// All TCP and UDP sockets of the namespace, with their values in a socket storage.
    pub fn list(&mut self, storage: BorrowedFd<'_>) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        for family in [AF_INET, AF_INET6] {
            for protocol in [TCP, UDP] {
                self.list_kind(family, protocol, Some(storage), &mut sockets)?;
            }
        }
        Ok(sockets)
    }

    /// The same without values.
    pub fn list_all(&mut self) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        for family in [AF_INET, AF_INET6] {
            for protocol in [TCP, UDP] {
                self.list_kind(family, protocol, None, &mut sockets)?;
            }
        }
        Ok(sockets)
    }

    /// Destroys a TCP or a connected UDP socket: its process sees ECONNABORTED. `false` where it is
    /// gone, or is a UDP socket that is not (or no longer) connected to its remote end.
    pub fn destroy(&mut self, socket: &Socket) -> io::Result<bool> {
        if socket.protocol == UDP && !self.is_still_connected(socket)? {
            return Ok(false);
        }
        let body = request(socket.family, socket.protocol, u32::MAX, Some(socket));
        gone_is_false(self.socket.ask(SOCK_DESTROY, ACK, &body, |_| {}))
    }

    fn is_still_connected(&mut self, socket: &Socket) -> io::Result<bool> {
        // To look up a single UDP socket the kernel takes the two ends the other way round
        // (net/ipv4/udp_diag.c: "src and dst are swapped for historical reasons").
        let swapped = Socket {
            local: socket.remote,
            local_port: socket.remote_port,
            remote: socket.local,
            remote_port: socket.local_port,
            ..socket.clone()
        };
        let body = request(socket.family, socket.protocol, u32::MAX, Some(&swapped));
        let mut same = false;
        let answer = self.socket.ask(SOCK_DIAG_BY_FAMILY, 0, &body, |part| {
            same = parse(part, socket.protocol).is_some_and(|found| {
                found.cookie == socket.cookie
                    && found.is_connected()
                    && found.remote_port == socket.remote_port
                    && found.remote == socket.remote
            });
        });
        Ok(gone_is_false(answer)? && same)
    }

    fn list_kind(
        &mut self,
        family: u8,
        protocol: u16,
        storage: Option<BorrowedFd<'_>>,
        sockets: &mut Vec<Socket>,
    ) -> io::Result<()> {
        let mut body = request(family, protocol, STATES, None);
        if let Some(storage) = storage {
            let mut wanted = Vec::new();
            let fd = storage.as_raw_fd().to_ne_bytes();
            push_attribute(&mut wanted, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &fd);
            push_attribute(&mut body, INET_DIAG_REQ_SK_BPF_STORAGES, &wanted);
        }
        self.socket.ask(SOCK_DIAG_BY_FAMILY, DUMP, &body, |part| {
            sockets.extend(parse(part, protocol));
        })
    }
}

fn gone_is_false(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `struct inet_diag_req_v2`
fn request(family: u8, protocol: u16, states: u32, socket: Option<&Socket>) -> Vec<u8> {
    #[expect(clippy::cast_possible_truncation, reason = "TCP or UDP")]
    let mut body = vec![family, protocol as u8, 0, 0];
    body.extend_from_slice(&states.to_ne_bytes());
    let Some(socket) = socket else {
        body.resize(56, 0);
        return body;
    };
    body.extend_from_slice(&socket.local_port.to_be_bytes());
    body.extend_from_slice(&socket.remote_port.to_be_bytes());
    for address in [&socket.local, &socket.remote] {
        match (family, address.v4()) {
            (AF_INET, Some(v4)) => {
                body.extend_from_slice(&v4.to_be_bytes());
                body.extend_from_slice(&[0; 12]);
            }
            _ => body.extend_from_slice(&address.0),
        }
    }
    body.extend_from_slice(&socket.device.to_ne_bytes());
    body.extend_from_slice(&socket.cookie.to_le_bytes());
    body
}

/// `struct inet_diag_msg` and its attributes.
fn parse(part: &[u8], protocol: u16) -> Option<Socket> {
    let [family, state, ..] = *part else {
        return None;
    };
    let address = |offset: usize| -> Option<Address> {
        let bytes: &[u8; 16] = part.get(offset..)?.first_chunk()?;
        let [a, b, c, d, ..] = *bytes;
        Some(if family == AF_INET {
            Address::from_v4([a, b, c, d])
        } else {
            Address(*bytes)
        })
    };
    let mut socket = Socket {
        family,
        protocol,
        state,
        local_port: u16::from_be(u16_at(part, 4)?),
        remote_port: u16::from_be(u16_at(part, 6)?),
        local: address(8)?,
        remote: address(24)?,
        device: u32_at(part, 40)?,
        cookie: u64::from(u32_at(part, 44)?) | u64::from(u32_at(part, 48)?) << 32,
        inode: u32_at(part, 68)?,
        cgroup: None,
        storage: None,
    };
    for (kind, content) in attributes(part.get(ANSWER..)?) {
        match kind {
            INET_DIAG_CGROUP_ID => {
                socket.cgroup = content.first_chunk().map(|id| u64::from_ne_bytes(*id));
            }
            INET_DIAG_SK_BPF_STORAGES => socket.storage = stored(content),
            _ => {}
        }
    }
    Some(socket)
}

fn stored(content: &[u8]) -> Option<Vec<u8>> {
    let (_, storage) = attributes(content).find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE)?;
    attributes(storage)
        .find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE_MAP_VALUE)
        .map(|(_, value)| value.to_vec())
}
