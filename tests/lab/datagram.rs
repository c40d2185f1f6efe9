//! Datagrams to every address of a namespace: each with the address it was sent to, and the way back
//! from there.

use std::{
    io::{IoSlice, IoSliceMut},
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    libc::in6_pktinfo,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
        sockopt,
    },
};

/// How long a receiver waits before it looks whether it is over.
const WAKE: Duration = Duration::from_millis(50);
/// What may wait to be read, bytes.
const QUEUE_BYTES: usize = 16 << 20;

/// A socket that takes datagrams for one port of every address.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Arc<UdpSocket>,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

/// One datagram.
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    /// The address it was sent to.
    pub(crate) to: IpAddr,
    pub(crate) from: SocketAddr,
    pub(crate) back: WayBack,
}

/// To whom a datagram came from, from where it was sent to.
pub(crate) struct WayBack {
    socket: Arc<UdpSocket>,
    information: in6_pktinfo,
    peer: SockaddrIn6,
}

impl Datagrams {
    /// Binds the port in the namespace of this thread; longer datagrams are cut.
    pub(crate) fn bind(port: u16, bytes_max: usize) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
            .with_context(|| format!("udp port {port}"))?;
        socket.set_read_timeout(Some(WAKE))?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE_BYTES)?;
        Ok(Self {
            socket: Arc::new(socket),
            buffer: vec![0; bytes_max],
            control: nix::cmsg_space!(in6_pktinfo),
        })
    }

    /// The next one; none after a while without.
    pub(crate) fn receive(&mut self) -> Option<Datagram<'_>> {
        let (length, information, peer) = {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let message = recvmsg::<SockaddrIn6>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut self.control),
                MsgFlags::empty(),
            )
            .ok()?;
            let information = message.cmsgs().ok()?.find_map(|one| {
                if let ControlMessageOwned::Ipv6PacketInfo(information) = one {
                    Some(information)
                } else {
                    None
                }
            })?;
            (message.bytes, information, message.address?)
        };
        Some(Datagram {
            bytes: self.buffer.get(..length)?,
            to: Ipv6Addr::from(information.ipi6_addr.s6_addr).to_canonical(),
            from: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            back: WayBack {
                socket: Arc::clone(&self.socket),
                information,
                peer,
            },
        })
    }
}

impl WayBack {
    /// Sends an answer. Best effort, as datagrams are: a multicast address can not be a source.
    pub(crate) fn send(&self, bytes: &[u8]) {
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::Ipv6PacketInfo(&self.information)],
            MsgFlags::empty(),
            Some(&self.peer),
        )
        .ok();
    }
}
