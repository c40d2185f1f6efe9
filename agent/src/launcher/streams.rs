//! The standard streams that a worker is given.
//!
//! A socket belongs to the cgroup in which it was made: one that the caller connected is seen by no
//! hook of the session's cgroup, and a worker that got it as a standard stream could send on it, or
//! connect it elsewhere, past the policy. Files, pipes, terminals and unix sockets are streams.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname},
};

const NAMES: [&str; 3] = ["input", "output", "error"];

/// A standard stream that no worker gets.
#[derive(Debug, thiserror::Error)]
#[error(
    "standard {name}: a network socket, which no hook of the session would see\n\
     hint: put a pipe between: `cat | stockade run … | cat`"
)]
pub struct NetworkSocket {
    name: &'static str,
}

/// Refuses sockets of any family but unix.
pub(super) fn check(streams: &[OwnedFd; 3]) -> Result<(), NetworkSocket> {
    for (stream, name) in streams.iter().zip(NAMES) {
        let is_stream = match getsockname::<SockaddrStorage>(stream.as_raw_fd()) {
            Ok(address) => address.family() == Some(AddressFamily::Unix),
            Err(errno) => errno == Errno::ENOTSOCK,
        };
        if !is_stream {
            return Err(NetworkSocket { name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, UdpSocket},
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

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
