//! A visit to a cgroup that somebody else made: who is in it, with which privileges, in which network
//! namespaces; and in those that the resolver does not know yet, its sockets.
//!
//! The agent has confined itself and can look into no foreign process, so a child of the launcher goes,
//! tells what it found, and ends: the launcher itself never stands in a foreign namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::privileges::{Privileges, inherited, privileges, threads};
use crate::sys::{
    netns,
    process::SingleThreaded,
    seqpacket::{self, MESSAGE_FDS_MAX},
    sock_diag::Diag,
};

/// Processes of one cgroup that are looked at.
const PROCESSES_MAX: usize = 16_384;
/// Findings that are told; what is more is not told apart.
pub(super) const FINDINGS_MAX: usize = 32;
/// How a cgroup lists a process of a pid namespace that is not below this process's own.
const UNSEEN: u32 = 0;
/// Network namespaces that are told of.
const NAMESPACES_MAX: usize = 16;
/// Descriptors for a new namespace: UDP and TCP of both families, and `sock_diag` twice.
const NEW_FDS: usize = 6;
/// How long a datagram over loopback may take.
const ON_THE_WAY_MAX: Duration = Duration::from_millis(500);

/// Agent to launcher; with the socket for the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// Folder of the cgroup.
    pub cgroup: PathBuf,
    /// A process that is passed over: the one that asks for the fence.
    pub except: Option<u32>,
    /// The resolver's port.
    pub port: u16,
    /// Cookie of the agent's network namespace.
    pub own: u64,
    /// Cookies of other network namespaces in which the resolver listens.
    pub known: Vec<u64>,
}

/// What a visitor found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visited {
    /// Processes in the cgroup and below it.
    pub processes: usize,
    /// What some of them have that no fence holds, in words.
    pub holes: Vec<String>,
    /// Their network namespaces.
    pub namespaces: Vec<Namespace>,
    /// Why it could not look.
    pub failed: Option<String>,
}

/// A network namespace in which processes of the cgroup are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its cookie; 0 where it could not be entered.
    pub cookie: u64,
    /// How many of the descriptors beside the answer are its own: none for the agent's, a `sock_diag`
    /// where it was known before, else the resolver's sockets and two of those.
    pub fds: usize,
    /// Why the resolver can not listen there.
    pub failed: Option<String>,
}

/// Carries out a visit and tells on this socket. For a process of its own.
pub(super) fn carry_out(visit: &Visit, socket: &OwnedFd, _one: &SingleThreaded) -> io::Result<()> {
    let (visited, fds) = match look(visit) {
        Ok(found) => found,
        Err(error) => {
            let visited = Visited {
                failed: Some(error.to_string()),
                ..Visited::default()
            };
            (visited, Vec::new())
        }
    };
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    seqpacket::send(socket, &super::protocol::encode(&visited)?, &raw)
}

/// A network namespace, held: whoever was found in it may end at any time.
struct Place {
    pid: u32,
    file: File,
}

/// Network namespaces by device and inode.
type Places = BTreeMap<(u64, u64), Place>;

fn look(visit: &Visit) -> io::Result<(Visited, Vec<OwnedFd>)> {
    let (mut pids, mut cgroups) = (BTreeSet::new(), BTreeSet::new());
    gather(&visit.cgroup, &mut pids, &mut cgroups)?;
    pids.retain(|pid| Some(*pid) != visit.except);
    let mut visited = Visited {
        processes: pids.len(),
        ..Visited::default()
    };
    let mut places = Places::new();
    for pid in pids.iter().copied().filter(|pid| *pid != UNSEEN) {
        match privileges(pid) {
            Ok(Privileges::None) => {}
            Ok(Privileges::Some(words)) => visited.hole(format!("process {pid} keeps {words}")),
            // It may end at any time; then there is nothing to look at.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        }
        note_places(pid, &mut places)?;
    }
    if pids.contains(&UNSEEN) {
        visited.hole("a process of another pid namespace, which can not be looked at".to_owned());
    }
    // A socket from elsewhere may be of another namespace than the process that holds it.
    let mut sockets = Diag::open()?.list_all()?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for place in places.values() {
        let room = MESSAGE_FDS_MAX.saturating_sub(fds.len());
        let (namespace, own) = enter(place, visit, room);
        if namespace.cookie != 0 && namespace.cookie != visit.own {
            sockets.extend(Diag::open()?.list_all()?);
        }
        visited.namespaces.push(namespace);
        fds.extend(own);
    }
    for hole in inherited(&pids, &sockets, &cgroups) {
        visited.hole(hole);
    }
    Ok((visited, fds))
}

/// Notes the network namespaces of a process: each thread may have another one, and the first may have
/// ended before the others.
fn note_places(pid: u32, places: &mut Places) -> io::Result<()> {
    for thread in threads(pid) {
        let file = match File::open(format!("/proc/{pid}/task/{thread}/ns/net")) {
            Err(error) if is_gone(&error) => continue,
            opened => opened?,
        };
        let found = file.metadata()?;
        places
            .entry((found.dev(), found.ino()))
            .or_insert(Place { pid, file });
        if places.len() > NAMESPACES_MAX {
            return Err(io::Error::other(format!(
                "processes in more than {NAMESPACES_MAX} network namespaces"
            )));
        }
    }
    Ok(())
}

impl Visited {
    fn hole(&mut self, words: String) {
        if self.holes.len() < FINDINGS_MAX && !self.holes.contains(&words) {
            self.holes.push(words);
        }
    }
}

/// The processes and the numbers of a cgroup and of all below it.
fn gather(folder: &Path, pids: &mut BTreeSet<u32>, cgroups: &mut BTreeSet<u64>) -> io::Result<()> {
    match fs::read_to_string(folder.join("cgroup.procs")) {
        // A threaded cgroup lists its threads only, by numbers of their own.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let threads = fs::read_to_string(folder.join("cgroup.threads"))?;
            pids.extend(threads.lines().filter_map(process_of));
        }
        listed => pids.extend(listed?.lines().filter_map(|line| line.parse::<u32>().ok())),
    }
    if pids.len() > PROCESSES_MAX {
        return Err(io::Error::other(format!(
            "more than {PROCESSES_MAX} processes"
        )));
    }
    cgroups.insert(fs::metadata(folder)?.ino());
    for entry in fs::read_dir(folder)?.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match gather(&entry.path(), pids, cgroups) {
            // Removed while we look.
            Err(error) if is_gone(&error) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The process of a thread, which is in the cgroup with a part of itself only.
fn process_of(thread: &str) -> Option<u32> {
    if thread.parse() == Ok(UNSEEN) {
        return Some(UNSEEN);
    }
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
}

/// Goes into a network namespace; makes the resolver's sockets where it has none there.
fn enter(place: &Place, visit: &Visit, room: usize) -> (Namespace, Vec<OwnedFd>) {
    let mut namespace = Namespace {
        cookie: 0,
        fds: 0,
        failed: None,
    };
    let fds = match fds(place, visit, room, &mut namespace.cookie) {
        Ok(fds) => fds,
        Err(why) => {
            namespace.failed = Some(why);
            Vec::new()
        }
    };
    namespace.fds = fds.len();
    (namespace, fds)
}

fn fds(
    place: &Place,
    visit: &Visit,
    room: usize,
    cookie: &mut u64,
) -> Result<Vec<OwnedFd>, String> {
    let pid = place.pid;
    setns(&place.file, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("process {pid}: its network namespace: {errno}"))?;
    *cookie =
        netns::cookie().map_err(|error| format!("cookie of its network namespace: {error}"))?;
    let (is_own, is_known) = (*cookie == visit.own, visit.known.contains(cookie));
    let needed = match (is_own, is_known) {
        (true, _) => 0,
        (_, true) => 1,
        _ => NEW_FDS,
    };
    if needed > room {
        return Err("too many network namespaces at once".to_owned());
    }
    if is_own {
        return Ok(Vec::new());
    }
    let mut fds = Vec::with_capacity(NEW_FDS);
    if !is_known {
        fds.extend(sockets(visit.port)?);
        fds.push(diag()?);
    }
    fds.push(diag()?);
    Ok(fds)
}

fn diag() -> Result<OwnedFd, String> {
    let diag = Diag::open().map_err(|error| format!("sock_diag: {error}"))?;
    Ok(diag.into_fd())
}

/// The resolver's sockets in this thread's network namespace.
fn sockets(port: u16) -> Result<Vec<OwnedFd>, String> {
    let mut fds = Vec::new();
    for ip in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let address = SocketAddr::new(ip, port);
        let udp = match UdpSocket::bind(address) {
            Err(error) if ip.is_ipv6() && has_no_address(&error) => continue,
            other => other.map_err(|error| not_bound(address, "udp", &error))?,
        };
        fds.push(udp.into());
        let tcp = TcpListener::bind(address);
        let tcp = tcp.map_err(|error| not_bound(address, "tcp", &error))?;
        fds.push(tcp.into());
    }
    can_be_reached()?;
    Ok(fds)
}

fn has_no_address(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

fn not_bound(address: SocketAddr, protocol: &str, error: &io::Error) -> String {
    if address.is_ipv4() && has_no_address(error) {
        return "its loopback device is down".to_owned();
    }
    format!("{protocol} {address}: {error}")
}

/// Binding to loopback and sending there works while the device is down; nothing is delivered then.
fn can_be_reached() -> Result<(), String> {
    let came = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| {
        socket.set_read_timeout(Some(ON_THE_WAY_MAX))?;
        let own = socket.local_addr()?;
        socket.send_to(&[], own)?;
        socket.recv(&mut [])
    });
    came.map(drop)
        .map_err(|error| format!("its loopback device is down: {error}"))
}
