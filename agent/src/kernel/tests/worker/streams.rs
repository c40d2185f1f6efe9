//! What a worker does with TCP beyond connecting.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, send, sendto,
    setsockopt, socket,
    sockopt::{TcpFastOpenConnect, TcpMaxSeg},
};

use super::{Kept, WAIT};
use crate::kernel::tests::lab::scaled;

impl Kept {
    /// A connection with segments of at most so many bytes: `MSS ADDRESS`.
    pub(super) fn dial_with_mss(&mut self, rest: &str) -> std::io::Result<()> {
        let (mss, to) = rest.split_once(' ').unwrap();
        let to: SocketAddr = to.parse().unwrap();
        let socket = tcp(to)?;
        setsockopt(&socket, TcpMaxSeg, &mss.parse().unwrap())?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        self.stream = Some(TcpStream::from(socket));
        Ok(())
    }

    /// Opens a connection with bytes in its first packet, where a cookie is known (RFC 7413):
    /// `ADDRESS BYTES`.
    pub(super) fn fast_open(&mut self, rest: &str) -> std::io::Result<String> {
        let (to, payload) = rest.split_once(' ').unwrap();
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.stream.insert(TcpStream::from(tcp(to)?));
        let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
        let address = SockaddrStorage::from(to);
        let sent = sendto(stream.as_raw_fd(), &bytes(payload), &address, flags)?;
        Ok(sent.to_string())
    }

    /// The same by connect and write.
    pub(super) fn fast_open_connect(&mut self, rest: &str) -> std::io::Result<String> {
        let (to, payload) = rest.split_once(' ').unwrap();
        let to: SocketAddr = to.parse().unwrap();
        let socket = tcp(to)?;
        setsockopt(&socket, TcpFastOpenConnect, &true)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        let stream = self.stream.insert(TcpStream::from(socket));
        Ok(stream.write(&bytes(payload))?.to_string())
    }

    /// A connection whose first packet waits for the first bytes.
    pub(super) fn dial_later(&mut self, to: SocketAddr) -> std::io::Result<()> {
        let socket = tcp(to)?;
        setsockopt(&socket, TcpFastOpenConnect, &true)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        self.stream = Some(TcpStream::from(socket));
        Ok(())
    }

    pub(super) fn stream_urgent(&mut self, payload: &str) -> std::io::Result<()> {
        let stream = self.stream.as_ref().unwrap();
        send(stream.as_raw_fd(), &bytes(payload), MsgFlags::MSG_OOB)?;
        Ok(())
    }

    pub(super) fn stream_write(&mut self, pieces: &str) -> std::io::Result<String> {
        let stream = self.stream.as_mut().unwrap();
        stream.set_nodelay(true)?;
        for (n, piece) in pieces.split(' ').enumerate() {
            if n > 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            stream.write_all(&bytes(piece))?;
        }
        Ok("ok".to_owned())
    }

    /// Waits until the other side or somebody else ends the stream.
    pub(super) fn stream_end(&mut self) -> std::io::Result<String> {
        let stream = self.stream.as_mut().unwrap();
        stream.set_read_timeout(Some(scaled(WAIT)))?;
        while stream.read(&mut [0; 4096])? > 0 {}
        Ok("closed".to_owned())
    }

    pub(super) fn stream_echo(&mut self) -> std::io::Result<String> {
        let stream = self.stream.as_mut().unwrap();
        stream.set_read_timeout(Some(scaled(WAIT)))?;
        stream.write_all(b"ping")?;
        let mut back = [0; 4];
        stream.read_exact(&mut back)?;
        Ok("ok".to_owned())
    }
}

fn tcp(to: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    let digit = |at| {
        char::to_digit(at, 16)
            .and_then(|d| u8::try_from(d).ok())
            .unwrap()
    };
    let digits: Vec<u8> = digits.chars().map(digit).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
