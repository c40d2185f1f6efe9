//! Numbers of the socket interface by name, so that scripts can be read.

use nix::libc;

const FAMILIES: &[(&str, i32)] = &[
    ("inet", libc::AF_INET),
    ("inet6", libc::AF_INET6),
    ("unix", libc::AF_UNIX),
    ("packet", libc::AF_PACKET),
    ("netlink", libc::AF_NETLINK),
    ("vsock", libc::AF_VSOCK),
    ("alg", libc::AF_ALG),
    ("xdp", libc::AF_XDP),
    ("rds", libc::AF_RDS),
    ("tipc", libc::AF_TIPC),
    ("smc", 43),
    ("key", libc::AF_KEY),
    ("bluetooth", libc::AF_BLUETOOTH),
];

const TYPES: &[(&str, i32)] = &[
    ("stream", libc::SOCK_STREAM),
    ("dgram", libc::SOCK_DGRAM),
    ("raw", libc::SOCK_RAW),
    ("seqpacket", libc::SOCK_SEQPACKET),
    ("dccp", 6),
    ("packet", 10),
];

const PROTOCOLS: &[(&str, i32)] = &[
    ("tcp", libc::IPPROTO_TCP),
    ("udp", libc::IPPROTO_UDP),
    ("icmp", libc::IPPROTO_ICMP),
    ("icmp6", libc::IPPROTO_ICMPV6),
    ("raw", libc::IPPROTO_RAW),
    ("mptcp", 262),
    ("sctp", libc::IPPROTO_SCTP),
    ("dccp", libc::IPPROTO_DCCP),
    ("udplite", libc::IPPROTO_UDPLITE),
    ("all", 0x0300),
];

const OPTIONS: &[(&str, (i32, i32))] = &[
    ("so.mark", (libc::SOL_SOCKET, libc::SO_MARK)),
    ("so.bindtodevice", (libc::SOL_SOCKET, libc::SO_BINDTODEVICE)),
    ("so.broadcast", (libc::SOL_SOCKET, libc::SO_BROADCAST)),
    ("so.zerocopy", (libc::SOL_SOCKET, libc::SO_ZEROCOPY)),
    ("so.reuseaddr", (libc::SOL_SOCKET, libc::SO_REUSEADDR)),
    ("so.reuseport", (libc::SOL_SOCKET, libc::SO_REUSEPORT)),
    ("so.dontroute", (libc::SOL_SOCKET, libc::SO_DONTROUTE)),
    ("ip.options", (libc::IPPROTO_IP, libc::IP_OPTIONS)),
    ("ip.transparent", (libc::IPPROTO_IP, libc::IP_TRANSPARENT)),
    ("ip.freebind", (libc::IPPROTO_IP, libc::IP_FREEBIND)),
    ("ip.hdrincl", (libc::IPPROTO_IP, libc::IP_HDRINCL)),
    ("ip.multicast_if", (libc::IPPROTO_IP, libc::IP_MULTICAST_IF)),
    (
        "ip.multicast_all",
        (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL),
    ),
    (
        "ip.add_membership",
        (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
    ),
    ("ip.unicast_if", (libc::IPPROTO_IP, 50)),
    ("ip6.addrform", (libc::IPPROTO_IPV6, 1)),
    ("ip6.rthdr", (libc::IPPROTO_IPV6, libc::IPV6_RTHDR)),
    ("ip6.hopopts", (libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS)),
    ("ip6.dstopts", (libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS)),
    ("ip6.v6only", (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)),
    ("ip6.flowinfo_send", (libc::IPPROTO_IPV6, 33)),
    ("ip6.autoflowlabel", (libc::IPPROTO_IPV6, 70)),
    ("ip6.mtu", (libc::IPPROTO_IPV6, 24)),
    ("ip6.mtu_discover", (libc::IPPROTO_IPV6, 23)),
    (
        "ip6.add_membership",
        (libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP),
    ),
    (
        "tcp.fastopen_connect",
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
    ),
    ("tcp.ulp", (libc::IPPROTO_TCP, libc::TCP_ULP)),
    ("tcp.nodelay", (libc::IPPROTO_TCP, libc::TCP_NODELAY)),
    ("tcp.repair", (libc::IPPROTO_TCP, 19)),
    ("udp.cork", (libc::IPPROTO_UDP, libc::UDP_CORK)),
    ("udp.segment", (libc::IPPROTO_UDP, libc::UDP_SEGMENT)),
    ("udp.encap", (libc::IPPROTO_UDP, 100)),
];

const FLAGS: &[(&str, i32)] = &[
    ("fastopen", libc::MSG_FASTOPEN),
    ("zerocopy", libc::MSG_ZEROCOPY),
    ("oob", libc::MSG_OOB),
    ("more", libc::MSG_MORE),
    ("dontroute", libc::MSG_DONTROUTE),
    ("confirm", libc::MSG_CONFIRM),
];

/// A number, or a name of this table.
fn number(table: &[(&str, i32)], text: &str) -> Result<i32, String> {
    table
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, number)| *number)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| format!("`{text}` is no name and no number"))
}

pub(crate) fn family(text: &str) -> Result<i32, String> {
    number(FAMILIES, text)
}

pub(crate) fn kind(text: &str) -> Result<i32, String> {
    number(TYPES, text)
}

pub(crate) fn protocol(text: &str) -> Result<i32, String> {
    number(PROTOCOLS, text)
}

pub(crate) fn option(text: &str) -> Result<(i32, i32), String> {
    OPTIONS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, pair)| *pair)
        .ok_or_else(|| format!("`{text}` is no option of the table"))
}

/// Flags joined by `|`; none for no word.
pub(crate) fn flags(text: Option<&str>) -> Result<i32, String> {
    text.map_or(Ok(0), |text| {
        text.split('|')
            .try_fold(0, |all, one| Ok(all | number(FLAGS, one)?))
    })
}
