//! Messages with descriptors over a `SOCK_SEQPACKET` socket: one message in, one message out.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
        sendmsg, setsockopt, socketpair, sockopt,
    },
};

/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Most descriptors of a message.
pub const MESSAGE_FDS_MAX: usize = 16;

/// A message that came.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its descriptors, closed on execution.
    pub fds: Vec<OwnedFd>,
}

/// A connected pair that takes messages of the greatest length.
pub fn pair(flags: SockFlag) -> io::Result<(OwnedFd, OwnedFd)> {
    let (left, right) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | flags,
    )?;
    for end in [&left, &right] {
        // Twice the length: the kernel counts its own overhead as well.
        setsockopt(end, sockopt::SndBufForce, &(2 * MESSAGE_BYTES_MAX))?;
    }
    Ok((left, right))
}

/// Sends one message.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    if bytes.len() > MESSAGE_BYTES_MAX || fds.len() > MESSAGE_FDS_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero))
    }
}

/// Receives one message; none when the other end is gone.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Message>> {
    let mut control = cmsg_space!([RawFd; MESSAGE_FDS_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            for fd in raw {
                // SAFETY: SCM_RIGHTS has just made this descriptor in this process; nobody owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let (length, flags) = (received.bytes, received.flags);
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    if length == 0 {
        return Ok(None);
    }
    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
    Ok(Some(Message { bytes, fds }))
}
