//! The special-purpose ranges, written down a second time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// (first address, length) of every range that only a door opens.
const SPECIAL_4: &[(&str, u32)] = &[
    ("0.0.0.0", 8),
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("168.63.129.16", 32),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.0.0.0", 24),
    ("192.0.2.0", 24),
    ("192.88.99.0", 24),
    ("192.168.0.0", 16),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 4),
    ("240.0.0.0", 4),
];
const PUBLIC_4: &[&str] = &["192.0.0.9", "192.0.0.10"];
const SPECIAL_6: &[(&str, u32)] = &[
    ("::", 128),
    ("::1", 128),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("100:0:0:1::", 64),
    ("2001::", 23),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("3fff::", 20),
    ("5f00::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("fec0::", 10),
    ("ff00::", 8),
];
const PUBLIC_6: &[(&str, u32)] = &[
    ("2001:1::1", 128),
    ("2001:1::2", 128),
    ("2001:1::3", 128),
    ("2001:3::", 32),
    ("2001:4:112::", 48),
    ("2001:20::", 28),
    ("2001:30::", 28),
];

pub(super) fn inside4(address: Ipv4Addr, network: &str, length: u32) -> bool {
    let network: Ipv4Addr = network.parse().unwrap();
    let bits = |ip: Ipv4Addr| u64::from(u32::from(ip)) >> (32 - length);
    bits(address) == bits(network)
}

pub(super) fn inside6(address: Ipv6Addr, network: &str, length: u32) -> bool {
    let network: Ipv6Addr = network.parse().unwrap();
    let differing = u128::from(address) ^ u128::from(network);
    length == 0 || differing >> (128 - length) == 0
}

#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub(super) enum Kind {
    Public,
    Local,
    Private,
}

pub(super) fn kind4(v4: Ipv4Addr) -> Kind {
    if v4.is_loopback() || v4.is_unspecified() {
        Kind::Local
    } else if SPECIAL_4.iter().any(|(net, len)| inside4(v4, net, *len))
        && !PUBLIC_4.iter().any(|ip| v4.to_string() == *ip)
    {
        Kind::Private
    } else {
        Kind::Public
    }
}

pub(super) fn kind(ip: IpAddr) -> Kind {
    match ip.to_canonical() {
        IpAddr::V4(v4) => kind4(v4),
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Kind::Local,
        IpAddr::V6(v6) => {
            let within =
                |list: &[(&str, u32)]| list.iter().any(|(net, len)| inside6(v6, net, *len));
            if within(SPECIAL_6) && !within(PUBLIC_6) {
                Kind::Private
            } else {
                Kind::Public
            }
        }
    }
}

/// The IPv4 address that an IPv6 address carries by its form.
pub(super) fn carried(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip.to_canonical() else {
        return None;
    };
    let [a, b, c, d, .., g, h] = v6.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    if inside6(v6, "64:ff9b::", 96) {
        Some(pair(g, h))
    } else if a == 0x2002 {
        Some(pair(b, c))
    } else if (a, b) == (0x2001, 0) {
        Some(pair(!g, !h))
    } else if inside6(v6, "::", 96) && (a, d) == (0, 0) && u128::from(v6) > 1 {
        Some(pair(g, h))
    } else {
        None
    }
}
