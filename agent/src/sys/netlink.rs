//! Netlink sockets: requests, answers in several parts, and the attributes in them (RFC 3549,
//! netlink(7)). Knows no family.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// `NLM_F_REQUEST`
pub const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`
pub const ACK: u16 = 0x04;
/// `NLM_F_ROOT | NLM_F_MATCH`
pub const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// The kernel fills dump buffers of at most this size (`NLMSG_GOODSIZE` and larger reads).
const RECEIVE_BYTES: usize = 64 << 10;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`
const TYPE_MASK: u16 = 0x3fff;

/// A netlink socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace; `groups` are those to listen to.
    pub fn open(protocol: SockProtocol, groups: u32, flags: SockFlag) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | flags,
            protocol,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Takes over one that was opened elsewhere and has asked nothing yet.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        Self { fd, sequence: 0 }
    }

    /// Its descriptor.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends a request and hands each part of the answer to `each`.
    pub fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(body);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let got = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..got).unwrap_or_default();
            while let Some((part, after)) = Part::take(rest) {
                rest = after;
                if part.sequence != self.sequence {
                    continue;
                }
                match part.kind {
                    DONE => return Ok(()),
                    ERROR => return part.error(),
                    _ => each(part.body),
                }
                if flags & DUMP == 0 && flags & ACK == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Throws away what has come in; `false` where nothing had. For a socket that does not block.
    pub fn drain(&self) -> io::Result<bool> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut any = false;
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // ENOBUFS: notices were lost; the one thing to do is to look again.
                Ok(_) | Err(nix::Error::ENOBUFS) => any = true,
                Err(nix::Error::EAGAIN) => return Ok(any),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Part<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Part<'a> {
    fn take(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = u32_at(bytes, 0)? as usize;
        let part = Self {
            kind: u16_at(bytes, 4)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER..length)?,
        };
        Some((part, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
    }

    fn error(&self) -> io::Result<()> {
        match u32_at(self.body, 0).map(u32::cast_signed) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The attributes in a part of an answer: type and content.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        let content = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, content))
    })
}

/// Appends an attribute.
pub fn push_attribute(message: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = u16::try_from(ATTRIBUTE_HEADER + content.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(content);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The number at an offset, in host order.
#[must_use]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|b| u16::from_ne_bytes(*b))
}

/// The number at an offset, in host order.
#[must_use]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|b| u32::from_ne_bytes(*b))
}
