//! What a foreign process has that hooks on its cgroup do not hold: capabilities that reach the network
//! past its sockets, root's user id, and sockets that were made elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use crate::sys::{process::shares_descriptors, sock_diag::Socket};

/// Capabilities (`linux/capability.h`) that reach past the hooks of a cgroup: packets without an INET
/// socket, other network namespaces, the hooks themselves, other cgroups.
const REACHING: &[(u32, &str)] = &[
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
];
/// The same for a user id: root may move itself to another cgroup.
const ROOT: &str = "root's user id";
/// How the lines of `status` begin that tell a set of capabilities (proc(5)).
const SETS: &[&str] = &["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];

/// How the line of `status` begins that tells its user ids: real, effective, saved, of files.
const USERS: &str = "Uid:";

/// What of a process reaches past the hooks.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Privileges {
    /// Nothing: no capability in any set, and no user id of root's, of any thread.
    None,
    /// These, in words.
    Some(String),
}

/// Looks at every set and every user id of every thread.
pub(super) fn privileges(pid: u32) -> io::Result<Privileges> {
    let (mut held, mut root) = (0, false);
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        match fs::read_to_string(entry.path().join("status")) {
            Ok(status) => {
                held |= sets(&status)?;
                root |= is_root(&status)?;
            }
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(named(held, root))
}

/// The threads of a process; none where it has ended.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// All sets of a `status` file united. One that lacks a set can not be judged.
fn sets(status: &str) -> io::Result<u64> {
    let mut held = 0;
    for set in SETS {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        held |= bits.ok_or_else(|| io::Error::other(format!("no {set} in its status")))?;
    }
    Ok(held)
}

/// Whether one of its user ids is root's: the folders of cgroups are root's, so whoever has it moves to
/// another one, with no capability at all.
fn is_root(status: &str) -> io::Result<bool> {
    let line = status.lines().find_map(|line| line.strip_prefix(USERS));
    let users = line.ok_or_else(|| io::Error::other(format!("no {USERS} in its status")))?;
    Ok(users.split_whitespace().any(|user| user == "0"))
}

fn named(held: u64, root: bool) -> Privileges {
    let names = REACHING.iter().filter(|(bit, _)| held >> bit & 1 != 0);
    let mut names: Vec<_> = names.map(|(_, name)| *name).collect();
    if root {
        names.push(ROOT);
    }
    if names.is_empty() {
        Privileges::None
    } else {
        Privileges::Some(names.join(", "))
    }
}

/// Those of these sockets that were made in none of these cgroups and that these processes hold: no hook
/// of the cgroups sees them.
pub(super) fn inherited(
    pids: &BTreeSet<u32>,
    sockets: &[Socket],
    cgroups: &BTreeSet<u64>,
) -> Vec<String> {
    let foreign = sockets.iter().filter(|socket| {
        socket.inode != 0
            && !socket
                .cgroup
                .is_some_and(|cgroup| cgroups.contains(&cgroup))
    });
    let foreign: BTreeMap<u32, &Socket> = foreign.map(|socket| (socket.inode, socket)).collect();
    let mut holes = Vec::new();
    if foreign.is_empty() {
        return holes;
    }
    for pid in pids {
        for inode in held(*pid) {
            let Some(socket) = foreign.get(&inode) else {
                continue;
            };
            let protocol = if socket.protocol == common::flow::TCP {
                "tcp"
            } else {
                "udp"
            };
            holes.push(format!(
                "process {pid} holds a socket that was made elsewhere: {protocol} {} port {}",
                socket.local, socket.local_port
            ));
        }
    }
    holes
}

/// Inodes of the sockets that a process holds. A thread may have descriptors of its own, and the first
/// one has none when it has ended before the others.
fn held(pid: u32) -> Vec<u32> {
    let mut inodes = Vec::new();
    let mut seen: Vec<u32> = Vec::new();
    for thread in threads(pid) {
        if seen.iter().any(|other| shares_descriptors(*other, thread)) {
            continue;
        }
        seen.push(thread);
        // It may have ended.
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task/{thread}/fd")) else {
            continue;
        };
        let links = entries
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        inodes.extend(links.filter_map(|link| inode(link.to_str()?)));
    }
    inodes
}

/// The number in `socket:[123]`.
fn inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{Privileges, held, inode, is_root, named, privileges, sets};

    const STATUS: &str = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000002000\nCapAmb:\t0000000000000000\n";

    #[test]
    fn every_set_counts() {
        assert_eq!(sets(STATUS).unwrap(), 0x2000);
        let moved = STATUS
            .replace("2000", "0000")
            .replace("Amb:\t00000000", "Amb:\t00000080");
        assert_eq!(
            named(sets(&moved).unwrap(), false),
            Privileges::Some("CAP_BPF".to_owned())
        );
        assert!(sets(&STATUS.replace("CapAmb", "CapXyz")).is_err());
        assert_eq!(named(1 << 10, false), Privileges::None);
    }

    #[test]
    fn every_user_id_counts() {
        let users = |ids: &str| is_root(&format!("Name:\tx\nUid:\t{ids}\n{STATUS}")).unwrap();
        assert!(!users("1000\t1000\t1000\t1000"));
        for ids in ["0\t7\t7\t7", "7\t0\t7\t7", "7\t7\t0\t7", "7\t7\t7\t0"] {
            assert!(users(ids), "{ids}");
        }
        assert!(is_root(STATUS).is_err());
        assert_eq!(
            named(0, true),
            Privileges::Some("root's user id".to_owned())
        );
    }

    #[test]
    fn this_process_is_seen() {
        let own = privileges(std::process::id()).unwrap();
        let Privileges::Some(names) = own else {
            panic!("tests run as root");
        };
        assert!(names.contains("CAP_NET_RAW"), "{names}");
        assert!(names.contains("root's user id"), "{names}");
    }

    #[test]
    fn links_of_sockets_are_read() {
        assert_eq!(inode("socket:[77]"), Some(77));
        assert_eq!(inode("pipe:[77]"), None);
    }

    #[test]
    fn descriptors_are_seen_once_and_those_of_single_threads_too() {
        let inode_of = |file: &File| {
            let metadata = file.metadata().expect("it is open");
            u32::try_from(std::os::unix::fs::MetadataExt::ino(&metadata)).expect("a socket's")
        };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let shared = inode_of(&File::from(std::os::fd::OwnedFd::from(socket)));
        assert!(!held(std::process::id()).contains(&shared), "it is closed");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let file = File::from(std::os::fd::OwnedFd::from(socket));
        let shared = inode_of(&file);
        let (told, own) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).expect("a table of its own");
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
            let file = File::from(std::os::fd::OwnedFd::from(socket));
            told.send(inode_of(&file)).expect("somebody listens");
            ended.recv().expect_err("nothing is sent");
        });
        let own = own.recv().expect("the thread tells");
        let found = held(std::process::id());
        let count = |wanted| found.iter().filter(|inode| **inode == wanted).count();
        // This one was there when the thread copied the table.
        assert_eq!((count(shared), count(own)), (2, 1));
        drop(end);
        thread.join().expect("it ends");
        drop(file);
    }
}
