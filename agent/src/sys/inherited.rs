//! Sockets that the service manager made and handed over (`sd_listen_fds(3)`).

use std::{
    env, io,
    os::{
        fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{
        AddressFamily, SockType, SockaddrLike as _, UnixAddr, getsockname, getsockopt, sockopt,
    },
};

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// Most descriptors that are looked at.
const MOST: RawFd = 64;

/// They are ours once only.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Descriptors with the names of their units (`FileDescriptorName=`). What nobody takes out is closed.
#[derive(Debug, Default)]
pub struct HandedOver(Vec<(String, OwnedFd)>);

impl HandedOver {
    /// Takes every descriptor that was handed over; none where they were taken before.
    ///
    /// To be called before any process or thread is started: until then they would be inherited.
    pub fn take() -> io::Result<Self> {
        let text = |key: &str| env::var(key).ok();
        let pid = text("LISTEN_PID").and_then(|pid| pid.parse().ok());
        if pid != Some(std::process::id()) || TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Self::default());
        }
        let count: RawFd = text("LISTEN_FDS")
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(str::to_owned);
        let mut names = names.chain(std::iter::repeat(String::new()));
        let mut taken = Vec::new();
        for number in (FIRST..).take(usize::try_from(count.clamp(0, MOST)).unwrap_or(0)) {
            // SAFETY: the service manager opened `LISTEN_FDS` descriptors from 3 on for the process
            // that `LISTEN_PID` names, before it was executed (sd_listen_fds(3)); that is this one,
            // nothing else of it takes them, and `TAKEN` lets this happen once.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            if let Err(error) = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
                // Nothing is open under that number: there is nothing to close either.
                let _closed: RawFd = fd.into_raw_fd();
                return Err(error.into());
            }
            taken.push((names.next().unwrap_or_default(), fd));
        }
        Ok(Self(taken))
    }

    /// Takes out those of this name.
    pub fn named(&mut self, name: &str) -> Vec<OwnedFd> {
        let all = std::mem::take(&mut self.0);
        let (wanted, others) = all.into_iter().partition(|(other, _)| other == name);
        self.0 = others;
        let wanted: Vec<(String, OwnedFd)> = wanted;
        wanted.into_iter().map(|(_, fd)| fd).collect()
    }
}

/// The listening unix stream socket that a descriptor is said to be.
pub fn unix_listener(fd: OwnedFd) -> io::Result<UnixListener> {
    let address: UnixAddr = getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    let is_stream = getsockopt(&fd.as_fd(), sockopt::SockType)? == SockType::Stream;
    let listens = getsockopt(&fd.as_fd(), sockopt::AcceptConn)?;
    // An abstract socket is anybody's who shares the network namespace.
    let has_path = address.path().is_some() && address.family() == Some(AddressFamily::Unix);
    if !(is_stream && listens && has_path) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::OwnedFd, unix::net::UnixListener},
    };

    use super::{HandedOver, unix_listener};

    fn socket() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").expect("a port").into()
    }

    #[test]
    fn each_name_gets_its_own() {
        let all = ["resolver", "broker", "resolver"].map(|name| (name.to_owned(), socket()));
        let mut handed_over = HandedOver(all.into());
        assert_eq!(handed_over.named("resolver").len(), 2);
        assert_eq!(handed_over.named("resolver").len(), 0);
        assert_eq!(handed_over.named("broker").len(), 1);
    }

    #[test]
    fn only_a_listening_unix_socket_with_a_path_is_taken() {
        assert!(unix_listener(socket()).is_err());
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket");
        assert!(unix_listener(listener.into()).is_ok());
        let (left, _right) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert!(unix_listener(left.into()).is_err());
    }
}
