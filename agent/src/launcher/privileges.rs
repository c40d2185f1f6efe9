//! What a foreign process has that hooks on its cgroup do not hold: capabilities that reach the network
//! past its sockets, and sockets that were made elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use crate::sys::sock_diag::{Diag, Socket};

/// Capabilities (`linux/capability.h`) that reach past the hooks of a cgroup: packets without an INET
/// socket, other network namespaces, the hooks themselves, other cgroups.
const REACHING: &[(u32, &str)] = &[
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
];
/// How the lines of `status` begin that tell a set of capabilities (proc(5)).
const SETS: &[&str] = &["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];

/// Capabilities of a process that reach past the hooks.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Privileges {
    /// None, in any set of any thread.
    None,
    /// These, in words.
    Some(String),
}

/// Looks at every set of every thread.
pub(super) fn privileges(pid: u32) -> io::Result<Privileges> {
    let mut held = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        match fs::read_to_string(entry.path().join("status")) {
            Ok(status) => held |= sets(&status)?,
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(named(held))
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

fn named(held: u64) -> Privileges {
    let names = REACHING.iter().filter(|(bit, _)| held >> bit & 1 != 0);
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    if names.is_empty() {
        Privileges::None
    } else {
        Privileges::Some(names.join(", "))
    }
}

/// Sockets that these processes hold and that were made in none of these cgroups: no hook of the cgroup
/// sees them. Looks at the network namespace of this thread, and there at what `sock_diag` lists.
pub(super) fn inherited(pids: &[u32], cgroups: &BTreeSet<u64>) -> io::Result<Vec<String>> {
    let listed = Diag::open()?.list_all()?;
    let foreign = listed.iter().filter(|socket| {
        socket.inode != 0
            && !socket
                .cgroup
                .is_some_and(|cgroup| cgroups.contains(&cgroup))
    });
    let foreign: BTreeMap<u32, &Socket> = foreign.map(|socket| (socket.inode, socket)).collect();
    let mut holes = Vec::new();
    if foreign.is_empty() {
        return Ok(holes);
    }
    for pid in pids {
        // It may have ended.
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(link) = fs::read_link(entry.path()) else {
                continue;
            };
            let inode = link.to_str().and_then(inode);
            if let Some(socket) = inode.and_then(|inode| foreign.get(&inode)) {
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
    }
    Ok(holes)
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
    use super::{Privileges, inode, named, privileges, sets};

    const STATUS: &str = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000002000\nCapAmb:\t0000000000000000\n";

    #[test]
    fn every_set_counts() {
        assert_eq!(sets(STATUS).unwrap(), 0x2000);
        let moved = STATUS
            .replace("2000", "0000")
            .replace("Amb:\t00000000", "Amb:\t00000080");
        assert_eq!(
            named(sets(&moved).unwrap()),
            Privileges::Some("CAP_BPF".to_owned())
        );
        assert!(sets(&STATUS.replace("CapAmb", "CapXyz")).is_err());
        assert_eq!(named(1 << 10), Privileges::None);
    }

    #[test]
    fn this_process_is_seen() {
        let own = privileges(std::process::id()).unwrap();
        let Privileges::Some(names) = own else {
            panic!("tests run as root");
        };
        assert!(names.contains("CAP_NET_RAW"), "{names}");
    }

    #[test]
    fn links_of_sockets_are_read() {
        assert_eq!(inode("socket:[77]"), Some(77));
        assert_eq!(inode("pipe:[77]"), None);
    }
}
