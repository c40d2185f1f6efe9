//! A visit to a cgroup that somebody else made: who is in it, with which privileges, in which network
//! namespaces; and in those that the resolver does not know yet, its sockets.
//!
//! The agent has confined itself and can look into no foreign process, so a child of the launcher goes,
//! tells what it found, and ends: the launcher itself never stands in a foreign namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
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

use super::privileges::{Privileges, inherited, privileges};
use crate::sys::{
    netns,
    process::{SingleThreaded, pidfd},
    seqpacket::{self, MESSAGE_FDS_MAX},
    sock_diag::Diag,
};

/// Processes of one cgroup that are looked at.
const PROCESSES_MAX: usize = 16_384;
/// Findings that are told; what is more is not told apart.
pub(super) const FINDINGS_MAX: usize = 32;
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

/// A process, held so that its number can not become another's.
struct Resident {
    pid: u32,
    fd: OwnedFd,
}

fn look(visit: &Visit) -> io::Result<(Visited, Vec<OwnedFd>)> {
    let (mut pids, mut cgroups) = (BTreeSet::new(), BTreeSet::new());
    gather(&visit.cgroup, &mut pids, &mut cgroups)?;
    pids.retain(|pid| Some(*pid) != visit.except);
    let mut visited = Visited {
        processes: pids.len(),
        ..Visited::default()
    };
    // One process of each namespace, and all its processes.
    let mut namespaces: BTreeMap<(u64, u64), (Resident, Vec<u32>)> = BTreeMap::new();
    for pid in pids {
        // It may end at any time; then there is nothing to look at.
        let Ok(fd) = pidfd(pid) else { continue };
        let place = match fs::metadata(format!("/proc/{pid}/ns/net")) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        match privileges(pid) {
            Ok(Privileges::None) => {}
            Ok(Privileges::Some(words)) => visited.hole(format!("process {pid} keeps {words}")),
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        }
        let resident = Resident { pid, fd };
        let (_, residents) = namespaces
            .entry(place)
            .or_insert_with(|| (resident, Vec::new()));
        residents.push(pid);
    }
    if namespaces.len() > NAMESPACES_MAX {
        return Err(io::Error::other(format!(
            "processes in more than {NAMESPACES_MAX} network namespaces"
        )));
    }
    let mut fds: Vec<OwnedFd> = Vec::new();
    for (resident, residents) in namespaces.values() {
        let room = MESSAGE_FDS_MAX.saturating_sub(fds.len());
        let (namespace, own) = enter(resident, visit, room);
        if namespace.cookie != 0 {
            for hole in inherited(residents, &cgroups)? {
                visited.hole(hole);
            }
        }
        visited.namespaces.push(namespace);
        fds.extend(own);
    }
    Ok((visited, fds))
}

impl Visited {
    fn hole(&mut self, words: String) {
        if self.holes.len() < FINDINGS_MAX {
            self.holes.push(words);
        }
    }
}

/// The processes and the numbers of a cgroup and of all below it.
fn gather(folder: &Path, pids: &mut BTreeSet<u32>, cgroups: &mut BTreeSet<u64>) -> io::Result<()> {
    let listed = match fs::read_to_string(folder.join("cgroup.procs")) {
        // A threaded cgroup lists its threads only.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            fs::read_to_string(folder.join("cgroup.threads"))?
        }
        other => other?,
    };
    // 0 is a process that this process can not see.
    pids.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
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

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
}

/// Goes into a process's network namespace; makes the resolver's sockets where it has none there.
fn enter(resident: &Resident, visit: &Visit, room: usize) -> (Namespace, Vec<OwnedFd>) {
    let mut namespace = Namespace {
        cookie: 0,
        fds: 0,
        failed: None,
    };
    let fds = match fds(resident, visit, room, &mut namespace.cookie) {
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
    resident: &Resident,
    visit: &Visit,
    room: usize,
    cookie: &mut u64,
) -> Result<Vec<OwnedFd>, String> {
    let pid = resident.pid;
    setns(&resident.fd, CloneFlags::CLONE_NEWNET)
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
