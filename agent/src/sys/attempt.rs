//! Socket calls by raw numbers, for the probe that tries what no sane program does: families,
//! protocols, options and flags that safe wrappers do not offer.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use super::process::done;

/// `socket(2)`
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers; wrong ones are answered with an errno.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    done(fd.into())?;
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `connect(2)` to an address of the Internet families.
pub fn connect(socket: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    let address = address(to);
    // SAFETY: pointer and length are those of one initialised buffer that outlives the call.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            address.as_ptr().cast(),
            length(&address),
        )
    };
    done(result.into())
}

/// `sendto(2)` with an address of the Internet families.
pub fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], flags: i32, to: SocketAddr) -> io::Result<()> {
    let address = address(to);
    // SAFETY: both pointers and lengths are those of initialised buffers that outlive the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags,
            address.as_ptr().cast(),
            length(&address),
        )
    };
    done(i64::try_from(sent).unwrap_or(-1))
}

/// `setsockopt(2)` with a value of bytes.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let size = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: pointer and length are those of one initialised buffer that outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), size) };
    done(result.into())
}

/// `io_uring_setup(2)`: whether a ring can be had at all.
pub fn io_uring() -> io::Result<OwnedFd> {
    /// Bytes of `struct io_uring_params`.
    const PARAMETERS: usize = 120;
    let mut parameters = [0_u8; PARAMETERS];
    // SAFETY: the kernel reads and writes one `io_uring_params`, for which the buffer is large enough.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1_u32, parameters.as_mut_ptr()) };
    done(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `AF_UNIX` stream connect by path.
pub fn connect_unix(socket: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let mut address = libc::AF_UNIX
        .to_ne_bytes()
        .get(..2)
        .unwrap_or_default()
        .to_vec();
    address.extend(path.bytes());
    address.push(0);
    // SAFETY: pointer and length are those of one initialised buffer that outlives the call.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            address.as_ptr().cast(),
            length(&address),
        )
    };
    done(result.into())
}

/// The bytes of `sockaddr_in` or `sockaddr_in6` (`ip(7)`, `ipv6(7)`).
fn address(to: SocketAddr) -> Vec<u8> {
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let family = u16::try_from(family).unwrap_or_default();
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(to.port().to_be_bytes());
    match to {
        SocketAddr::V4(v4) => {
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn length(address: &[u8]) -> libc::socklen_t {
    libc::socklen_t::try_from(address.len()).unwrap_or_default()
}

/// A null pointer stands for "no address" in `sendto(2)` on a connected socket.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer outlives the call; without an address its length is 0.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            ptr::null(),
            0,
        )
    };
    done(i64::try_from(sent).unwrap_or(-1))
}
