//! Sockets of other kinds, and calls that go another way than `connect` and `sendto`.

use super::{Arrival, EPERM, NO_FAMILY, NO_OPTION, NO_SOCKET, Outcome, Row};

const OTHER: Arrival = Arrival::World(&["1.2.3.4"]);
const ALLOWED: Arrival = Arrival::World(&["93.184.216.34"]);
const NOWHERE: Arrival = Arrival::Nowhere;
const NO_RING: Outcome = Outcome::Refused(&["ENOSYS", "EPERM"]);

/// A family that no hook sees.
const fn family(name: &'static str, script: &'static str) -> Row {
    Row::refused(name, script, NOWHERE, Outcome::Unseen, NO_FAMILY)
}

pub(super) const ROWS: &[Row] = &[
    Row::refused(
        "fast open by sendto",
        "socket inet stream; sendto 1.2.3.4:443 5 fastopen; recv",
        OTHER,
        EPERM,
        EPERM,
    ),
    Row::refused(
        "fast open by option",
        "socket inet stream; opt tcp.fastopen_connect int 1; connect 1.2.3.4:443; send 5; recv",
        OTHER,
        EPERM,
        EPERM,
    ),
    Row::refused(
        "fast open over ipv6",
        "socket inet6 stream; sendto [2a00:1450::8]:443 5 fastopen; recv",
        Arrival::World(&["2a00:1450::8"]),
        EPERM,
        EPERM,
    ),
    Row {
        hooks: Outcome::Works,
        fence: Outcome::Works,
        ..Row::refused(
            "fast open to an allowed address",
            "socket inet stream; sendto 93.184.216.34:443 5 fastopen; recv",
            ALLOWED,
            EPERM,
            EPERM,
        )
    },
    Row::refused(
        "mptcp",
        "socket inet stream mptcp; connect 93.184.216.34:443; send 5; recv",
        ALLOWED,
        Outcome::Refused(&["EPROTONOSUPPORT"]),
        Outcome::Refused(&["EPROTONOSUPPORT"]),
    ),
    Row::refused(
        "mptcp over ipv6",
        "socket inet6 stream mptcp; connect [2a00:1450::8]:443; send 5",
        Arrival::World(&["2a00:1450::8"]),
        Outcome::Refused(&["EPROTONOSUPPORT"]),
        Outcome::Refused(&["EPROTONOSUPPORT"]),
    ),
    Row::refused(
        "sctp",
        "socket inet stream sctp",
        NOWHERE,
        NO_SOCKET,
        NO_FAMILY,
    )
    .lackable(),
    Row::refused(
        "sctp, one to many",
        "socket inet seqpacket sctp",
        NOWHERE,
        NO_SOCKET,
        NO_FAMILY,
    )
    .lackable(),
    Row::refused(
        "dccp",
        "socket inet dccp dccp",
        NOWHERE,
        NO_SOCKET,
        NO_FAMILY,
    )
    .lackable(),
    Row::refused(
        "udp-lite, connected",
        "socket inet dgram udplite; connect 93.184.216.34:443; send 5",
        ALLOWED,
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "udp-lite over ipv6",
        "socket inet6 dgram udplite; sendto [2a00:1450::8]:443 5",
        Arrival::World(&["2a00:1450::8"]),
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "ping socket",
        "socket inet dgram icmp; payload echo; sendto 93.184.216.34:0",
        ALLOWED,
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "ping socket over ipv6",
        "socket inet6 dgram icmp6; payload echo6; sendto [2a00:1450::8]:0",
        Arrival::World(&["2a00:1450::8"]),
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "raw icmp",
        "socket inet raw icmp; payload echo; sendto 1.2.3.4:0",
        OTHER,
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "raw socket with a header of its own",
        "socket inet raw raw; payload udp4 45.33.32.2 1.2.3.4 443; sendto 1.2.3.4:0",
        OTHER,
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "raw socket with a header of its own to an allowed address",
        "socket inet raw udp; opt ip.hdrincl int 1; payload udp4 45.33.32.2 93.184.216.34 443; \
         sendto 93.184.216.34:0",
        ALLOWED,
        NO_SOCKET,
        NO_FAMILY,
    ),
    Row::refused(
        "packet socket",
        "socket packet dgram all; payload udp4 45.33.32.2 1.2.3.4 443; sendto packet:2",
        OTHER,
        Outcome::Unseen,
        NO_FAMILY,
    ),
    family("packet socket, old kind", "socket inet packet all"),
    family("vsock", "socket vsock stream"),
    family("netlink other than route", "socket netlink raw 12"),
    family("kernel crypto", "socket alg seqpacket").lackable(),
    family("express data path", "socket xdp raw"),
    family("reliable datagrams", "socket rds seqpacket").lackable(),
    family("tipc", "socket tipc dgram").lackable(),
    family("smc", "socket smc stream").lackable(),
    family("key management", "socket key raw 2").lackable(),
    family("bluetooth", "socket bluetooth raw").lackable(),
    Row::refused(
        "ring: connect",
        "socket inet stream; uring connect 1.2.3.4:443; send 5; recv",
        OTHER,
        EPERM,
        NO_RING,
    ),
    Row::refused(
        "ring: send to",
        "socket inet dgram; uring sendmsg 1.2.3.4:443",
        OTHER,
        EPERM,
        NO_RING,
    ),
    Row::refused(
        "ring: socket, then connect",
        "uring socket 1.2.3.4:443; connect 1.2.3.4:443; send 5; recv",
        OTHER,
        EPERM,
        NO_RING,
    ),
    Row {
        hooks: Outcome::Works,
        ..Row::refused(
            "ring: connect to an allowed address",
            "socket inet stream; uring connect 93.184.216.34:443; send 5; recv",
            ALLOWED,
            EPERM,
            NO_RING,
        )
    },
    Row::refused(
        "bind to a port of its choice",
        "socket inet stream; bind 0.0.0.0:7199; listen",
        NOWHERE,
        Outcome::Refused(&["EACCES"]),
        Outcome::Refused(&["EACCES"]),
    ),
    Row::refused(
        "bind to a port of its choice, udp over ipv6",
        "socket inet6 dgram; bind [::]:7199",
        NOWHERE,
        Outcome::Refused(&["EACCES"]),
        Outcome::Refused(&["EACCES"]),
    ),
    Row::refused(
        "connection repaired into being",
        "socket inet stream; opt tcp.repair int 1; connect 1.2.3.4:443; opt tcp.repair int 0; \
         try send 5",
        OTHER,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "a network namespace of its own",
        "unshare",
        NOWHERE,
        Outcome::Unseen,
        NO_UNSHARE,
    ),
];

const NO_UNSHARE: Outcome = Outcome::Refused(&["EPERM", "ENOSYS"]);
