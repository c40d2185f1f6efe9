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
/// Most descriptors that are taken.
const MOST: usize = 64;

/// They are ours once only.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What was handed over is not what is taken. Nothing of it is guessed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Their number is none.
    #[error("`LISTEN_FDS` is `{0}`: not a number from 0 to {MOST}")]
    Count(String),
    /// A descriptor is not open.
    #[error("descriptor {number} of `LISTEN_FDS`: is not there")]
    Absent {
        /// Which.
        number: RawFd,
        /// Why.
        source: io::Error,
    },
    /// More of one name than are taken.
    #[error("socket `{name}`: {count} of that name, where 1 is taken\nhint: one `ListenStream=`")]
    Several {
        /// The name of its unit.
        name: &'static str,
        /// How many.
        count: usize,
    },
    /// It is something else.
    #[error(
        "socket `{0}`: is no listening unix stream socket with a path\nhint: one `ListenStream=`"
    )]
    Kind(&'static str),
    /// Nothing takes a socket of that name.
    #[error(
        "socket `{0}`: nothing takes one of that name\n\
         hint: `FileDescriptorName=` of a socket unit is `broker` or `resolver`"
    )]
    Name(String),
    /// It can not be used.
    #[error("socket `{name}`: can not be used")]
    Unusable {
        /// The name of its unit.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Descriptors with the names of their units (`FileDescriptorName=`). What nobody takes out is closed.
#[derive(Debug, Default)]
pub struct HandedOver(Vec<(String, OwnedFd)>);

impl HandedOver {
    /// Takes every descriptor that was handed over; none where they were taken before.
    ///
    /// To be called before any process or thread is started: until then they would be inherited.
    pub fn take() -> Result<Self, Error> {
        let text = |key: &str| env::var(key).ok();
        let pid = text("LISTEN_PID").and_then(|pid| pid.parse().ok());
        if pid != Some(std::process::id()) || TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Self::default());
        }
        let count = count(text("LISTEN_FDS").as_deref())?;
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(str::to_owned);
        let mut names = names.chain(std::iter::repeat(String::new()));
        let mut taken = Vec::new();
        for number in (FIRST..).take(count) {
            // SAFETY: the service manager opened `LISTEN_FDS` descriptors from 3 on for the process
            // that `LISTEN_PID` names, before it was executed (sd_listen_fds(3)); that is this one,
            // nothing else of it takes them, and `TAKEN` lets this happen once.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            if let Err(errno) = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
                // Nothing is open under that number: there is nothing to close either.
                let _closed: RawFd = fd.into_raw_fd();
                let source = errno.into();
                return Err(Error::Absent { number, source });
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

    /// Takes out the listening unix stream socket of this name, if there is one.
    pub fn unix_listener(&mut self, name: &'static str) -> Result<Option<UnixListener>, Error> {
        let mut found = self.named(name);
        match (found.pop(), found.len()) {
            (None, _) => Ok(None),
            (Some(fd), 0) => unix_listener(name, fd).map(Some),
            (Some(_), others) => {
                let count = others.saturating_add(1);
                Err(Error::Several { name, count })
            }
        }
    }

    /// To be called when all were taken that anybody takes: a socket that nobody serves would leave its
    /// callers waiting.
    pub fn nothing_left(self) -> Result<(), Error> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _closed)) => Err(Error::Name(name)),
        }
    }
}

fn count(text: Option<&str>) -> Result<usize, Error> {
    let text = text.unwrap_or("0");
    let count = text.parse().ok().filter(|count| *count <= MOST);
    count.ok_or_else(|| Error::Count(text.to_owned()))
}

/// The listening unix stream socket that a descriptor is said to be.
fn unix_listener(name: &'static str, fd: OwnedFd) -> Result<UnixListener, Error> {
    let kind = |_errno: nix::errno::Errno| Error::Kind(name);
    let address: UnixAddr = getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd)).map_err(kind)?;
    let is_stream = getsockopt(&fd.as_fd(), sockopt::SockType).map_err(kind)? == SockType::Stream;
    let listens = getsockopt(&fd.as_fd(), sockopt::AcceptConn).map_err(kind)?;
    // An abstract socket is anybody's who shares the network namespace.
    let has_path = address.path().is_some() && address.family() == Some(AddressFamily::Unix);
    if !(is_stream && listens && has_path) {
        return Err(Error::Kind(name));
    }
    let listener = UnixListener::from(fd);
    let unusable = |source| Error::Unusable { name, source };
    listener.set_nonblocking(true).map_err(unusable)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::TcpListener,
        os::{
            fd::OwnedFd,
            unix::net::{UnixDatagram, UnixListener},
        },
    };

    use super::{Error, HandedOver, MOST, count, unix_listener};

    fn socket() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").expect("a port").into()
    }

    fn handed_over(names: &[&str]) -> HandedOver {
        HandedOver(
            names
                .iter()
                .map(|name| ((*name).to_owned(), socket()))
                .collect(),
        )
    }

    #[test]
    fn each_name_gets_its_own() {
        let mut handed_over = handed_over(&["resolver", "broker", "resolver"]);
        assert_eq!(handed_over.named("resolver").len(), 2);
        assert_eq!(handed_over.named("resolver").len(), 0);
        assert_eq!(handed_over.named("broker").len(), 1);
        assert!(handed_over.nothing_left().is_ok());
    }

    #[test]
    fn a_name_that_nobody_takes_is_told() {
        for name in ["stockade-broker.socket", "", "Broker"] {
            let mut handed_over = handed_over(&["broker", name]);
            assert_eq!(handed_over.named("broker").len(), 1);
            let left = handed_over.nothing_left();
            assert!(matches!(left, Err(Error::Name(other)) if other == name));
        }
    }

    #[test]
    fn only_one_listening_unix_socket_with_a_path_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = || {
            static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            OwnedFd::from(UnixListener::bind(folder.path().join(number.to_string())).expect("one"))
        };
        let of = |fds: Vec<OwnedFd>| {
            let named = fds.into_iter().map(|fd| ("broker".to_owned(), fd));
            HandedOver(named.collect()).unix_listener("broker")
        };
        assert!(of(Vec::new()).is_ok_and(|listener| listener.is_none()));
        assert!(of(vec![listener()]).is_ok_and(|listener| listener.is_some()));
        let two = of(vec![listener(), listener()]);
        assert!(matches!(two, Err(Error::Several { count: 2, .. })));
        let (left, _right) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let datagram = UnixDatagram::bind(folder.path().join("datagram")).expect("one");
        let file = File::open("/dev/null").expect("it is there");
        for fd in [socket(), left.into(), datagram.into(), file.into()] {
            assert!(matches!(unix_listener("broker", fd), Err(Error::Kind(_))));
        }
    }

    #[test]
    fn a_number_is_a_number() {
        assert_eq!(count(None).ok(), Some(0));
        assert_eq!(count(Some("64")).ok(), Some(MOST));
        for text in ["65", "-1", "two", "", " 1"] {
            assert!(matches!(count(Some(text)), Err(Error::Count(_))), "{text}");
        }
    }
}
