//! Counts every packet that arrives at the world: the receiving side's proof.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
            sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use crate::netns::Netns;

const QUEUE_BYTES: usize = 64 << 20;
const WAKE_MS: i64 = 50;
const SNAP_BYTES: usize = 256;

/// What is counted: a packet by destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Packet {
    /// Protocol number of IPv4, first next-header of IPv6.
    pub protocol: u8,
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went, as written on the wire.
    pub destination: IpAddr,
    /// Destination port of TCP, UDP and UDP-Lite, else 0.
    pub port: u16,
    /// Whether an IPv4 packet carried options.
    pub options: bool,
}

type Counts = Arc<Mutex<BTreeMap<Packet, u64>>>;

/// A thread that reads all packets of a namespace.
#[derive(Debug)]
pub struct Recorder {
    counts: Counts,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts to record what arrives in `netns`.
    pub fn start(netns: &Netns) -> Result<Self> {
        let socket = netns.enter(|| -> Result<OwnedFd> {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .context("a packet socket can not be made")?;
            setsockopt(&socket, sockopt::RcvBufForce, &QUEUE_BYTES)?;
            setsockopt(
                &socket,
                sockopt::ReceiveTimeout,
                &TimeVal::milliseconds(WAKE_MS),
            )?;
            Ok(socket)
        })??;
        let (counts, ended) = (Counts::default(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (counts, ended) = (Arc::clone(&counts), Arc::clone(&ended));
            std::thread::spawn(move || record(&socket, &counts, &ended))
        };
        Ok(Self {
            counts,
            ended,
            thread: Some(thread),
        })
    }

    /// Everything seen so far.
    pub fn packets(&self) -> Vec<(Packet, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(packet, count)| (*packet, *count))
            .collect()
    }

    /// Forgets what was seen for one address and port.
    pub fn forget(&self, destination: SocketAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|packet, _| {
            packet.destination != destination.ip() || packet.port != destination.port()
        });
    }

    /// Packets seen for one address and port.
    pub fn count_of(&self, destination: SocketAddr) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .filter(|(packet, _)| {
                packet.destination == destination.ip() && packet.port == destination.port()
            })
            .map(|(_, count)| count)
            .sum()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            drop(thread.join());
        }
    }
}

fn record(socket: &OwnedFd, counts: &Counts, ended: &AtomicBool) {
    let mut buffer = [0_u8; SNAP_BYTES];
    while !ended.load(Ordering::Relaxed) {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                if let Some(packet) = buffer.get(..length.min(SNAP_BYTES)).and_then(parse) {
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    *counts.entry(packet).or_default() += 1;
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => {
                eprintln!("recorder: {error}");
                return;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Packet> {
    match bytes.first()? >> 4 {
        4 => parse4(bytes),
        6 => parse6(bytes),
        _ => None,
    }
}

fn parse4(bytes: &[u8]) -> Option<Packet> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let protocol = *bytes.get(9)?;
    Some(Packet {
        protocol,
        source: Ipv4Addr::from(array::<4>(bytes, 12)?).into(),
        destination: Ipv4Addr::from(array::<4>(bytes, 16)?).into(),
        port: port(protocol, bytes, header),
        options: header > 20,
    })
}

fn parse6(bytes: &[u8]) -> Option<Packet> {
    let protocol = *bytes.get(6)?;
    Some(Packet {
        protocol,
        source: Ipv6Addr::from(array::<16>(bytes, 8)?).into(),
        destination: Ipv6Addr::from(array::<16>(bytes, 24)?).into(),
        port: port(protocol, bytes, 40),
        options: false,
    })
}

fn port(protocol: u8, bytes: &[u8], offset: usize) -> u16 {
    match protocol {
        6 | 17 | 136 => array::<2>(bytes, offset + 2).map_or(0, u16::from_be_bytes),
        _ => 0,
    }
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}
