//! The standard streams that a worker is given.
//!
//! A socket belongs to the cgroup in which it was made: one that the caller connected is seen by no
//! hook of the session's cgroup, and a worker that got it as a standard stream could send on it, or
//! connect it elsewhere, past the policy. A folder of the host is a way around the built root. Files,
//! pipes, character devices (terminals) and unix sockets are streams; nothing else is.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::{
    socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname},
    stat::{SFlag, fstat},
};

const NAMES: [&str; 3] = ["input", "output", "error"];

/// A standard stream that no worker gets.
#[derive(Debug, thiserror::Error)]
pub enum NotAStream {
    /// A socket of another family than unix.
    #[error(
        "standard {0}: a network socket, which no hook of the session would see\n\
         hint: put a pipe between: `cat | stockade run … | cat`"
    )]
    NetworkSocket(&'static str),
    /// A folder, a block device, or something that has no type on a file system.
    #[error(
        "standard {0}: neither a file, a pipe, a terminal nor a unix socket\n\
         hint: `< /dev/null` where the worker needs none"
    )]
    Other(&'static str),
}

/// Refuses what is no stream.
pub(super) fn check(streams: &[OwnedFd; 3]) -> Result<(), NotAStream> {
    for (stream, name) in streams.iter().zip(NAMES) {
        let mode = fstat(stream).map_err(|_unreadable| NotAStream::Other(name))?;
        match SFlag::from_bits_truncate(mode.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFIFO | SFlag::S_IFCHR => {}
            SFlag::S_IFSOCK if is_unix(stream) => {}
            SFlag::S_IFSOCK => return Err(NotAStream::NetworkSocket(name)),
            _ => return Err(NotAStream::Other(name)),
        }
    }
    Ok(())
}

fn is_unix(stream: &OwnedFd) -> bool {
    getsockname::<SockaddrStorage>(stream.as_raw_fd())
        .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, UdpSocket},
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use nix::sys::epoll::{Epoll, EpollCreateFlags};

    use super::check;

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("/dev/null").into()
    }

    #[test]
    fn files_pipes_and_unix_sockets_are_streams() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        assert!(check(&[null(), reader.into(), ours.into()]).is_ok());
    }

    #[test]
    fn folders_and_what_has_no_type_are_refused() {
        let folder = File::open("/").expect("the root");
        assert!(check(&[folder.into(), null(), null()]).is_err());
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("epoll");
        assert!(check(&[null(), epoll.0, null()]).is_err());
    }

    #[test]
    fn network_sockets_are_refused_by_name() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let tcp = TcpListener::bind("[::1]:0").expect("a socket");
        let said = check(&[udp.into(), null(), null()]).expect_err("refused");
        assert!(
            said.to_string()
                .starts_with("standard input: a network socket")
        );
        let said = check(&[null(), null(), tcp.into()]).expect_err("refused");
        assert!(
            said.to_string()
                .starts_with("standard error: a network socket")
        );
    }
}
