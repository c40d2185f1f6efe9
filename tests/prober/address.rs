//! Socket addresses as bytes, in the family in which they are written.

use std::{
    mem::size_of,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
};

use lab::sys::RawAddress;
use nix::libc;

/// `1.2.3.4:5`, `[::1]:5`, `[fe80::1%2]:5` (zone by index), `unspec`,
/// `unspec4:1.2.3.4:5`, `unix:/path`,
/// `abstract:name`, `netlink`, `vsock:CID:PORT`, `packet:IFINDEX`.
pub(crate) fn parse(text: &str) -> Result<RawAddress, String> {
    if text == "unspec" {
        return Ok(RawAddress(family(libc::AF_UNSPEC, &[0; 14])));
    }
    if text == "netlink" {
        return Ok(RawAddress(family(libc::AF_NETLINK, &[0; 10])));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = [path.as_bytes(), &[0]].concat();
        return Ok(RawAddress(family(libc::AF_UNIX, &path)));
    }
    if let Some(name) = text.strip_prefix("abstract:") {
        let name = [&[0], name.as_bytes()].concat();
        return Ok(RawAddress(family(libc::AF_UNIX, &name)));
    }
    if let Some(rest) = text.strip_prefix("unspec4:") {
        // `sendto` takes AF_UNSPEC for AF_INET (udp(7) does not say so, the kernel does it).
        let RawAddress(mut bytes) = parse(rest)?;
        bytes.iter_mut().take(2).for_each(|byte| *byte = 0);
        return Ok(RawAddress(bytes));
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        return vsock(rest);
    }
    if let Some(index) = text.strip_prefix("packet:") {
        return packet(index);
    }
    if text.starts_with('[') {
        return parse6(text).map(RawAddress);
    }
    let address: SocketAddrV4 = text.parse().map_err(|e| format!("{text}: {e}"))?;
    Ok(RawAddress(v4(*address.ip(), address.port())))
}

fn v4(ip: Ipv4Addr, port: u16) -> Vec<u8> {
    let rest = [&port.to_be_bytes()[..], &ip.octets(), &[0; 8]].concat();
    family(libc::AF_INET, &rest)
}

fn parse6(text: &str) -> Result<Vec<u8>, String> {
    let address: SocketAddrV6 = text.parse().map_err(|e| format!("{text}: {e}"))?;
    let rest = [
        &address.port().to_be_bytes()[..],
        &address.flowinfo().to_be_bytes(),
        &address.ip().octets(),
        &address.scope_id().to_ne_bytes(),
    ]
    .concat();
    Ok(family(libc::AF_INET6, &rest))
}

fn vsock(rest: &str) -> Result<RawAddress, String> {
    let (cid, port) = rest.split_once(':').ok_or("vsock:CID:PORT")?;
    let number = |text: &str| text.parse::<u32>().map_err(|e| e.to_string());
    let rest = [
        &[0; 2][..],
        &number(port)?.to_ne_bytes(),
        &number(cid)?.to_ne_bytes(),
        &[0; 4],
    ]
    .concat();
    Ok(RawAddress(family(libc::AF_VSOCK, &rest)))
}

fn packet(index: &str) -> Result<RawAddress, String> {
    let index: i32 = index.parse().map_err(|e| format!("{index}: {e}"))?;
    // Protocol IPv4, hardware address of the world's end of the wire.
    let rest = [
        &0x0800_u16.to_be_bytes()[..],
        &index.to_ne_bytes(),
        &[0, 0, 0, 6],
        &[2, 0, 0, 0, 0, 1, 0, 0],
    ]
    .concat();
    Ok(RawAddress(family(libc::AF_PACKET, &rest)))
}

fn family(family: i32, rest: &[u8]) -> Vec<u8> {
    let family = u16::try_from(family).unwrap_or_default();
    [&family.to_ne_bytes()[..], rest].concat()
}

const _: () = assert!(size_of::<libc::sockaddr_in6>() == 28);

/// The 16 bytes of an IPv6 address.
pub(crate) fn bytes6(text: &str) -> Result<[u8; 16], String> {
    text.parse::<Ipv6Addr>()
        .map(|ip| ip.octets())
        .map_err(|e| format!("{text}: {e}"))
}

/// The four bytes of an IPv4 address.
pub(crate) fn bytes4(text: &str) -> Result<[u8; 4], String> {
    text.parse::<Ipv4Addr>()
        .map(|ip| ip.octets())
        .map_err(|e| format!("{text}: {e}"))
}
