//! Socket options by level; what stands nowhere is refused.
//!
//! Not here: IP options, IPv6 routing, hop-by-hop and destination headers, group joins, binding to a
//! device, marks, transparent binding, socket filters, change of the address family, encapsulation,
//! reading pages after the call (zero copy), and upper-layer protocols: their name is in memory, where
//! a filter can not tell `tls` from `smc`. Programs then speak TLS themselves. What comes in as a
//! control message of `sendmsg` no filter sees: the egress hook judges the packet.

use super::{Rule, Verdict};

const LEVEL: u8 = 1;
const OPTION: u8 = 2;

/// `setsockopt`
pub(super) fn set() -> Rule {
    let levels = LEVELS.iter().map(|(level, options)| {
        let rule = Rule::one_of(OPTION, options);
        if *level == SOL_SOCKET {
            let ignored = (SO_BROADCAST, Rule::Always(Verdict::Ignored));
            return (*level, Rule::choice(OPTION, u32::MAX, [ignored], rule));
        }
        (*level, rule)
    });
    Rule::choice(LEVEL, u32::MAX, levels, Rule::REFUSE)
}

const SOL_SOCKET: u32 = 1;
/// Go sets it on every datagram socket and fails where it can not. What is sent to a broadcast address
/// then has the kernel's refusal (`EACCES`): its copy for this host would pass no hook of egress.
const SO_BROADCAST: u32 = 6;

const LEVELS: &[(u32, &[u32])] = &[
    (SOL_SOCKET, SOCKET),
    (0, IPV4),
    (41, IPV6),
    (6, TCP),
    (270, NETLINK),
];

/// `SOL_SOCKET`
const SOCKET: &[u32] = &[
    2,  // SO_REUSEADDR
    7,  // SO_SNDBUF
    8,  // SO_RCVBUF
    9,  // SO_KEEPALIVE
    10, // SO_OOBINLINE
    13, // SO_LINGER
    15, // SO_REUSEPORT
    16, // SO_PASSCRED
    18, // SO_RCVLOWAT
    20, // SO_RCVTIMEO
    21, // SO_SNDTIMEO
    66, // SO_RCVTIMEO_NEW
    67, // SO_SNDTIMEO_NEW
];

/// `IPPROTO_IP`
const IPV4: &[u32] = &[
    1,  // IP_TOS
    2,  // IP_TTL
    8,  // IP_PKTINFO
    10, // IP_MTU_DISCOVER
    11, // IP_RECVERR
    12, // IP_RECVTTL
    13, // IP_RECVTOS
    24, // IP_BIND_ADDRESS_NO_PORT
    49, // IP_MULTICAST_ALL, which a JVM turns off on every datagram socket
];

/// `IPPROTO_IPV6`
const IPV6: &[u32] = &[
    16, // IPV6_UNICAST_HOPS
    18, // IPV6_MULTICAST_HOPS, which a JVM sets on every datagram socket
    23, // IPV6_MTU_DISCOVER
    25, // IPV6_RECVERR
    26, // IPV6_V6ONLY
    29, // IPV6_MULTICAST_ALL, as IP_MULTICAST_ALL
    49, // IPV6_RECVPKTINFO
    51, // IPV6_RECVHOPLIMIT
    62, // IPV6_DONTFRAG
    66, // IPV6_RECVTCLASS
    67, // IPV6_TCLASS
    72, // IPV6_ADDR_PREFERENCES
];

/// `IPPROTO_TCP`
const TCP: &[u32] = &[
    1,  // TCP_NODELAY
    2,  // TCP_MAXSEG
    3,  // TCP_CORK
    4,  // TCP_KEEPIDLE
    5,  // TCP_KEEPINTVL
    6,  // TCP_KEEPCNT
    7,  // TCP_SYNCNT
    8,  // TCP_LINGER2
    9,  // TCP_DEFER_ACCEPT
    10, // TCP_WINDOW_CLAMP
    12, // TCP_QUICKACK
    18, // TCP_USER_TIMEOUT
    25, // TCP_NOTSENT_LOWAT
    30, // TCP_FASTOPEN_CONNECT
    36, // TCP_INQ
];

/// `SOL_NETLINK`
const NETLINK: &[u32] = &[
    3,  // NETLINK_PKTINFO
    10, // NETLINK_CAP_ACK
    11, // NETLINK_EXT_ACK
    12, // NETLINK_GET_STRICT_CHK
];
