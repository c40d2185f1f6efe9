//! The `nameserver` lines of a resolv.conf(5). Search lists and options are the programs' business:
//! a worker's names come complete.

use std::{
    fs::{self, File},
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
};

use common::flow::DNS_PORT;

/// Servers that are taken, as many as the C library takes (`MAXNS`).
const SERVERS_MAX: usize = 3;
/// Bytes that are read.
const BYTES_MAX: u64 = 64 * 1024;

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// The file's state; `None` where it can not be seen.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let seen = fs::metadata(path).ok()?;
    Some(Stamp {
        device: seen.dev(),
        inode: seen.ino(),
        bytes: seen.len(),
        changed: (seen.ctime(), seen.ctime_nsec()),
    })
}

/// The servers that the file names.
pub(super) fn servers(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let mut text = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut text)?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Lines that name no address, or a link-local one with its zone, name no server.
fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let server = (words.next()? == "nameserver").then(|| words.next())??;
            let ip: IpAddr = server.parse().ok()?;
            Some(SocketAddr::new(ip, DNS_PORT))
        })
        .take(SERVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn servers_are_read_and_everything_else_is_passed_over() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\n\
                    nameserver\t2001:db8::1 # here\nnameserver fe80::1%eth0\nnameserver\n\
                    options ndots:3\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]
        );
        assert!(parse("").is_empty());
    }
}
