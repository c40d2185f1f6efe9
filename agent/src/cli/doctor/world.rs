//! The outside of the probe: a network namespace at the other end of a veth pair, with a tap that
//! takes down every packet that leaves the fence. Nothing is routed any further.

use std::{
    collections::HashSet,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
            sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
    unistd::gettid,
};

/// How long the last packets may be on their way.
const SETTLE: Duration = Duration::from_millis(300);
/// Largest packet that is looked at.
const PACKET_BYTES: usize = 2_048;
/// How often the tap looks whether it is to end.
const TAP_WAIT_MS: i64 = 100;

/// The world outside the fence.
pub(super) struct World {
    seen: Arc<Mutex<HashSet<Vec<u8>>>>,
}

/// The world can not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A namespace or a socket.
    #[error("probe: {0} failed")]
    Call(&'static str, #[source] io::Error),
    /// The `ip` program.
    #[error("probe: `ip {0}` failed{1}\nhint: `apt-get install iproute2`")]
    Ip(String, String),
}

impl World {
    /// Takes this process into a network namespace of its own, beside a world that it can send to.
    /// The process must have one thread.
    pub(super) fn enter() -> Result<Self, Error> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(called("making a network namespace"))?;
        let seen = Arc::default();
        let (tell, told) = mpsc::channel();
        let (go, going) = mpsc::channel();
        let tap = Arc::clone(&seen);
        let thread = thread::Builder::new()
            .name("world".to_owned())
            .spawn(move || {
                let made = unshare(CloneFlags::CLONE_NEWNET)
                    .map(|()| gettid().as_raw())
                    .map_err(called("making a network namespace"));
                if tell.send(made).is_err() || going.recv().is_err() {
                    return;
                }
                match open_tap() {
                    Ok(socket) if tell.send(Ok(0)).is_ok() => listen(&socket, &tap),
                    Ok(_) => {}
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
        thread.map_err(|error| Error::Call("starting a thread", error))?;
        let world = received(&told)?;
        ip(&format!(
            "link add probe0 type veth peer name probe1 netns {world}"
        ))?;
        // Both ends take packets without asking who has which address.
        for setting in [
            "link set lo up",
            "link set probe0 arp off up",
            "addr add 45.33.32.254/24 dev probe0",
            "-6 addr add 2a00:1:2:3::ff/64 dev probe0 nodad",
            "route add default dev probe0",
            "-6 route add default dev probe0",
        ] {
            ip(setting)?;
        }
        go.send(())
            .map_err(|_ended| Error::Call("starting the tap", Errno::EPIPE.into()))?;
        received(&told)?;
        Ok(Self { seen })
    }

    /// Which of these addresses stood in some packet that came out, wherever in it.
    pub(super) fn reached(&self, addresses: &[IpAddr]) -> HashSet<IpAddr> {
        thread::sleep(SETTLE);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let carried = |address: &IpAddr| {
            let bytes = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            seen.iter()
                .any(|packet| packet.windows(bytes.len()).any(|part| part == bytes))
        };
        addresses.iter().copied().filter(carried).collect()
    }
}

fn called(what: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Call(what, errno.into())
}

fn received(told: &Receiver<Result<i32, Error>>) -> Result<i32, Error> {
    let ended = |_closed| Err(Error::Call("starting the world", Errno::EPIPE.into()));
    told.recv().unwrap_or_else(ended)
}

/// Brings this end up and opens the tap, in the namespace of the calling thread.
fn open_tap() -> Result<OwnedFd, Error> {
    ip("link set probe1 arp off up")?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .map_err(called("opening the tap"))?;
    let wait = TimeVal::milliseconds(TAP_WAIT_MS);
    setsockopt(&socket, ReceiveTimeout, &wait).map_err(called("opening the tap"))?;
    Ok(socket)
}

/// Takes packets down until nobody is interested any more.
fn listen(tap: &OwnedFd, seen: &Arc<Mutex<HashSet<Vec<u8>>>>) {
    let mut packet = [0; PACKET_BYTES];
    while Arc::strong_count(seen) > 1 {
        match recv(tap.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(length) => {
                let bytes = packet.get(..length).unwrap_or_default().to_vec();
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(bytes);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn ip(arguments: &str) -> Result<(), Error> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::Ip(arguments.to_owned(), format!(": {said}")))
        }
        Err(error) => Err(Error::Ip(arguments.to_owned(), format!(": {error}"))),
    }
}
