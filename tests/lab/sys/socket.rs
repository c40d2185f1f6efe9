//! The socket calls.

use std::{
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use nix::{errno::Errno, libc};

use super::RawAddress;

type Result<T> = nix::Result<T>;

fn length(bytes: &[u8]) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes.len()).unwrap_or(libc::socklen_t::MAX)
}

fn size(result: libc::ssize_t) -> Result<usize> {
    usize::try_from(result).map_err(|_negative| Errno::last())
}

/// `socket(2)`, non-blocking.
pub fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK, protocol) };
    // SAFETY: `result` passes only a descriptor that the kernel has just made for us.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of a descriptor that this process was started with.
pub fn inherited(fd: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers; a number that is not open gives EBADF.
    let copy = unsafe { libc::dup(fd) };
    // SAFETY: as in `socket`.
    Errno::result(copy).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bind(2)`
pub fn bind(fd: BorrowedFd<'_>, address: &RawAddress) -> Result<()> {
    let bytes = &address.0;
    // SAFETY: the address points to as many bytes as its length says.
    let result = unsafe { libc::bind(fd.as_raw_fd(), bytes.as_ptr().cast(), length(bytes)) };
    Errno::result(result).map(drop)
}

/// `connect(2)`
pub fn connect(fd: BorrowedFd<'_>, address: &RawAddress) -> Result<()> {
    let bytes = &address.0;
    // SAFETY: the address points to as many bytes as its length says.
    let result = unsafe { libc::connect(fd.as_raw_fd(), bytes.as_ptr().cast(), length(bytes)) };
    Errno::result(result).map(drop)
}

/// `listen(2)`
pub fn listen(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::listen(fd.as_raw_fd(), 8) }).map(drop)
}

/// `accept(2)`
pub fn accept(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: null pointers mean that the peer's address is not wanted.
    let peer = unsafe { libc::accept(fd.as_raw_fd(), ptr::null_mut(), ptr::null_mut()) };
    // SAFETY: as in `socket`.
    Errno::result(peer).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `setsockopt(2)`
pub fn set(fd: BorrowedFd<'_>, (level, name): (i32, i32), value: &[u8]) -> Result<()> {
    // SAFETY: the value points to as many bytes as its length says.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            length(value),
        )
    };
    Errno::result(result).map(drop)
}

/// The address that `getsockname(2)` gives.
pub fn own_address(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<libc::sockaddr_storage>()];
    let mut size = length(&bytes);
    // SAFETY: the buffer is as long as `size` says, and the kernel writes no more.
    let result =
        unsafe { libc::getsockname(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut size) };
    Errno::result(result)?;
    bytes.truncate(size as usize);
    Ok(bytes)
}

/// `sendto(2)`, without an address where there is none.
pub fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    flags: i32,
    address: Option<&RawAddress>,
) -> Result<usize> {
    let (start, size_of_address) = address.map_or((ptr::null(), 0), |address| {
        (address.0.as_ptr(), length(&address.0))
    });
    // SAFETY: both pointers go with the lengths of their buffers; null goes with 0.
    let result = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
            start.cast(),
            size_of_address,
        )
    };
    size(result)
}

/// The parts of a `msghdr`, alive as long as it is used.
struct Message {
    part: libc::iovec,
    address: Vec<u8>,
    control: Vec<u64>,
    control_length: usize,
}

impl Message {
    fn new(bytes: &[u8], address: Option<&RawAddress>, control: &[u8]) -> Self {
        // Control messages start at addresses divisible by eight.
        let aligned = control
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word.iter_mut()
                    .zip(chunk)
                    .for_each(|(to, from)| *to = *from);
                u64::from_ne_bytes(word)
            })
            .collect();
        Self {
            part: libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            },
            address: address.map(|address| address.0.clone()).unwrap_or_default(),
            control: aligned,
            control_length: control.len(),
        }
    }

    fn header(&mut self) -> libc::msghdr {
        // SAFETY: all zeroes is a value of a structure of numbers and pointers.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        if !self.address.is_empty() {
            header.msg_name = self.address.as_mut_ptr().cast();
            header.msg_namelen = length(&self.address);
        }
        header.msg_iov = &raw mut self.part;
        header.msg_iovlen = 1;
        if !self.control.is_empty() {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = self.control_length;
        }
        header
    }
}

/// `sendmsg(2)` with control messages as bytes.
pub fn sendmsg(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    address: Option<&RawAddress>,
    control: &[u8],
) -> Result<usize> {
    let mut message = Message::new(bytes, address, control);
    let header = message.header();
    // SAFETY: the header points into `message` and `bytes`, which live until after the call.
    size(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) })
}

/// `sendmmsg(2)`: one datagram to each address; how many were sent.
pub fn sendmmsg(fd: BorrowedFd<'_>, bytes: &[u8], addresses: &[RawAddress]) -> Result<usize> {
    let mut messages: Vec<Message> = addresses
        .iter()
        .map(|address| Message::new(bytes, Some(address), &[]))
        .collect();
    let mut headers: Vec<libc::mmsghdr> = messages
        .iter_mut()
        .map(|message| libc::mmsghdr {
            msg_hdr: message.header(),
            msg_len: 0,
        })
        .collect();
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    // SAFETY: as many headers as `count` says, each pointing into a message that lives longer and stays in place.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    Errno::result(sent).map(|sent| usize::try_from(sent).unwrap_or_default())
}

/// One control message: header, data, padding.
pub fn control(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let length = size_of::<usize>() + 2 * size_of::<i32>() + data.len();
    let mut bytes = [
        &length.to_ne_bytes()[..],
        &level.to_ne_bytes(),
        &kind.to_ne_bytes(),
        data,
    ]
    .concat();
    bytes.resize(length.next_multiple_of(8), 0);
    bytes
}
