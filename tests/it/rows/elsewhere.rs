//! Addresses and ports that the policy does not name, in every spelling.

use super::{Arrival, EPERM, Outcome, Row};

const OTHER: Arrival = Arrival::World(&["1.2.3.4"]);
const ALLOWED: Arrival = Arrival::World(&["93.184.216.34"]);

const fn row(name: &'static str, script: &'static str, arrival: Arrival) -> Row {
    Row::refused(name, script, arrival, EPERM, EPERM)
}

macro_rules! tcp {
    ($name:literal, $family:literal, $address:literal, $seen:literal) => {
        row(
            $name,
            concat!(
                "socket ",
                $family,
                " stream; connect ",
                $address,
                "; send 5"
            ),
            Arrival::World(&[$seen]),
        )
    };
}

macro_rules! udp {
    ($name:literal, $family:literal, $address:literal, $seen:literal) => {
        row(
            $name,
            concat!("socket ", $family, " dgram; sendto ", $address, " 5"),
            Arrival::World(&[$seen]),
        )
    };
}

macro_rules! host {
    ($name:literal, $family:literal, $address:literal) => {
        row(
            concat!("tcp to ", $name),
            concat!(
                "socket ",
                $family,
                " stream; connect ",
                $address,
                "; send 5; recv"
            ),
            Arrival::Host,
        )
    };
    (udp $name:literal, $family:literal, $address:literal) => {
        row(
            concat!("udp to ", $name),
            concat!("socket ", $family, " dgram; sendto ", $address, " 5; recv"),
            Arrival::Host,
        )
    };
}

pub(super) const ROWS: &[Row] = &[
    tcp!(
        "tcp to another host on an allowed port",
        "inet",
        "1.2.3.4:443",
        "1.2.3.4"
    ),
    tcp!(
        "tcp to another port of an allowed host",
        "inet",
        "93.184.216.34:9000",
        "93.184.216.34"
    ),
    tcp!(
        "tcp beside an allowed prefix",
        "inet",
        "185.199.112.1:8443",
        "185.199.112.1"
    ),
    tcp!(
        "tcp beside an allowed port range",
        "inet",
        "185.199.108.9:9000",
        "185.199.108.9"
    ),
    tcp!(
        "tcp to another ipv6 host",
        "inet6",
        "[2a00:1450::8]:443",
        "2a00:1450::8"
    ),
    tcp!(
        "tcp beside an allowed ipv6 prefix",
        "inet6",
        "[2606:2800:220:2::34]:443",
        "2606:2800:220:2::34"
    ),
    tcp!(
        "tcp to a refused v4-mapped address",
        "inet6",
        "[::ffff:1.2.3.4]:443",
        "1.2.3.4"
    ),
    row(
        "udp, connect to another host",
        "socket inet dgram; connect 1.2.3.4:443; send 5",
        OTHER,
    ),
    udp!(
        "udp, send to another host",
        "inet",
        "1.2.3.4:443",
        "1.2.3.4"
    ),
    udp!(
        "udp, send to a port that is allowed for tcp",
        "inet",
        "93.184.216.34:8443",
        "93.184.216.34"
    ),
    udp!(
        "udp, send to another ipv6 host",
        "inet6",
        "[2a00:1450::8]:443",
        "2a00:1450::8"
    ),
    udp!(
        "udp, refused v4-mapped address",
        "inet6",
        "[::ffff:1.2.3.4]:443",
        "1.2.3.4"
    ),
    udp!(
        "udp, ipv4 address on an ipv6 socket",
        "inet6",
        "1.2.3.4:443",
        "1.2.3.4"
    ),
    udp!(
        "udp, address of no family",
        "inet",
        "unspec4:1.2.3.4:443",
        "1.2.3.4"
    ),
    row(
        "udp, ipv4 connect on an ipv6 socket",
        "socket inet6 dgram; connect 1.2.3.4:443; send 5",
        OTHER,
    ),
    row(
        "udp, connected to an allowed address and sent elsewhere",
        "socket inet dgram; connect 93.184.216.34:443; sendto 1.2.3.4:443 5",
        OTHER,
    ),
    row(
        "udp, connected again elsewhere",
        "socket inet dgram; connect 93.184.216.34:443; send 5; connect 1.2.3.4:443; send 5",
        OTHER,
    ),
    row(
        "tcp, connected again elsewhere",
        "socket inet stream; connect 93.184.216.34:443; send 5; connect unspec; \
         connect 1.2.3.4:443; send 5",
        OTHER,
    ),
    row(
        "tcp, ipv6 socket turned into an ipv4 one and connected again elsewhere",
        "socket inet6 stream; connect [::ffff:93.184.216.34]:443; opt ip6.addrform int 2; \
         connect unspec; connect 1.2.3.4:443; send 5",
        OTHER,
    ),
    row(
        "udp, the second of three in one call",
        "socket inet dgram; sendmmsg 1.2.3.4:443 93.184.216.34:443 1.2.3.4:443",
        OTHER,
    ),
    // Under the hooks alone there is no resolver; in the fence it answers, and nothing gets out.
    Row::refused(
        "tcp port 53",
        "socket inet stream; connect 93.184.216.34:53; send 5; recv",
        ALLOWED,
        EPERM,
        Outcome::Silent,
    ),
    Row::refused(
        "udp port 53",
        "socket inet dgram; sendto 93.184.216.34:53 5; recv",
        ALLOWED,
        EPERM,
        Outcome::Silent,
    ),
    tcp!("dns over tls", "inet", "1.1.1.1:853", "1.1.1.1"),
    tcp!(
        "metadata of most clouds",
        "inet",
        "169.254.169.254:80",
        "169.254.169.254"
    ),
    tcp!(
        "metadata of containers",
        "inet",
        "169.254.170.2:80",
        "169.254.170.2"
    ),
    tcp!(
        "metadata of alibaba",
        "inet",
        "100.100.100.200:80",
        "100.100.100.200"
    ),
    tcp!(
        "metadata of azure",
        "inet",
        "168.63.129.16:80",
        "168.63.129.16"
    ),
    tcp!(
        "metadata of oracle",
        "inet",
        "192.0.0.192:80",
        "192.0.0.192"
    ),
    tcp!(
        "metadata over ipv6",
        "inet6",
        "[fd00:ec2::254]:80",
        "fd00:ec2::254"
    ),
    tcp!(
        "metadata, v4-mapped",
        "inet6",
        "[::ffff:169.254.169.254]:80",
        "169.254.169.254"
    ),
    tcp!(
        "metadata inside nat64",
        "inet6",
        "[64:ff9b::a9fe:a9fe]:80",
        "64:ff9b::a9fe:a9fe"
    ),
    tcp!("private 10/8", "inet", "10.0.0.1:443", "10.0.0.1"),
    tcp!(
        "another port behind a door",
        "inet",
        "10.20.0.5:443",
        "10.20.0.5"
    ),
    tcp!(
        "a neighbour of a door",
        "inet",
        "10.20.0.6:5432",
        "10.20.0.6"
    ),
    tcp!("private 172.16/12", "inet", "172.16.0.9:443", "172.16.0.9"),
    tcp!(
        "private 192.168/16",
        "inet",
        "192.168.1.1:443",
        "192.168.1.1"
    ),
    tcp!(
        "shared address space",
        "inet",
        "100.64.0.1:443",
        "100.64.0.1"
    ),
    tcp!("documentation", "inet", "203.0.113.7:443", "203.0.113.7"),
    tcp!("reserved 240/4", "inet", "240.0.0.1:443", "240.0.0.1"),
    tcp!(
        "unique local ipv6",
        "inet6",
        "[fd12:3456::1]:443",
        "fd12:3456::1"
    ),
    tcp!(
        "nat64 of a private address",
        "inet6",
        "[64:ff9b::a00:1]:443",
        "64:ff9b::a00:1"
    ),
    tcp!(
        "nat64 of a public address",
        "inet6",
        "[64:ff9b::102:304]:443",
        "64:ff9b::102:304"
    ),
    tcp!(
        "local nat64",
        "inet6",
        "[64:ff9b:1::a00:1]:443",
        "64:ff9b:1::a00:1"
    ),
    tcp!(
        "6to4 of a private address",
        "inet6",
        "[2002:a00:1::1]:443",
        "2002:a00:1::1"
    ),
    tcp!(
        "teredo",
        "inet6",
        "[2001:0:a00:1::1]:443",
        "2001:0:a00:1::1"
    ),
    tcp!(
        "link local with a zone",
        "inet6",
        "[fe80::1%2]:443",
        "fe80::1"
    ),
    udp!(
        "link local with a zone, udp",
        "inet6",
        "[fe80::1%2]:443",
        "fe80::1"
    ),
    row(
        "v4-compatible form of a private address",
        "socket inet6 dgram; sendto [::a00:1]:443 5",
        Arrival::World(&["::a00:1"]),
    ),
    row(
        "broadcast to all",
        "socket inet dgram; opt so.broadcast int 1; sendto 255.255.255.255:443 5",
        Arrival::World(&["255.255.255.255"]),
    ),
    row(
        "broadcast of the wire",
        "socket inet dgram; opt so.broadcast int 1; sendto 45.33.32.255:443 5",
        Arrival::World(&["45.33.32.255"]),
    ),
    udp!("multicast", "inet", "239.1.1.1:443", "239.1.1.1"),
    udp!("multicast dns", "inet", "224.0.0.251:5353", "224.0.0.251"),
    udp!(
        "multicast over ipv6",
        "inet6",
        "[ff02::fb%2]:5353",
        "ff02::fb"
    ),
    host!("loopback", "inet", "127.0.0.1:7100"),
    host!("loopback beyond .1", "inet", "127.0.0.2:7100"),
    host!("the unspecified address", "inet", "0.0.0.0:7100"),
    host!("the unspecified ipv6 address", "inet6", "[::]:7100"),
    host!("loopback over ipv6", "inet6", "[::1]:7100"),
    host!("loopback, v4-mapped", "inet6", "[::ffff:127.0.0.1]:7100"),
    host!("the host's own address", "inet", "45.33.32.2:7100"),
    host!("the host's second address", "inet", "45.79.1.1:7100"),
    host!(
        "the host's own ipv6 address",
        "inet6",
        "[2600:3c01::2]:7100"
    ),
    host!("the host's link local address", "inet6", "[fe80::2%2]:7100"),
    host!(udp "loopback", "inet", "127.0.0.1:7100"),
    host!(udp "loopback beyond .1", "inet", "127.9.9.9:7100"),
    host!(udp "the unspecified address", "inet", "0.0.0.0:7100"),
    host!(udp "the unspecified ipv6 address", "inet6", "[::]:7100"),
    host!(udp "loopback over ipv6", "inet6", "[::1]:7100"),
    host!(udp "the host's own address", "inet", "45.33.32.2:7100"),
    host!(udp "the host's own ipv6 address", "inet6", "[2600:3c01::2]:7100"),
];
