//! What the policy names: it works under every fence.

use super::{Arrival, Outcome, Row};

const WORLD: Arrival = Arrival::World(&["93.184.216.34"]);
const WORLD6: Arrival = Arrival::World(&["2606:2800:220:1::34"]);

const fn row(name: &'static str, script: &'static str, arrival: Arrival) -> Row {
    Row {
        name,
        script,
        arrival,
        bare: Outcome::Works,
        hooks: Outcome::Works,
        fence: Outcome::Works,
    }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "tcp to an allowed address and port",
        "socket inet stream; connect 93.184.216.34:443; send 5; recv",
        WORLD,
    ),
    row(
        "tcp to another allowed port",
        "socket inet stream tcp; connect 93.184.216.34:8443; send 5; recv",
        WORLD,
    ),
    row(
        "tcp to an allowed prefix and port range",
        "socket inet stream; connect 185.199.110.7:8443; send 5; recv",
        Arrival::World(&["185.199.110.7"]),
    ),
    row(
        "tcp over ipv6 to an allowed prefix",
        "socket inet6 stream; connect [2606:2800:220:1::34]:443; send 5; recv",
        WORLD6,
    ),
    row(
        "tcp from an ipv6 socket to an allowed v4-mapped address",
        "socket inet6 stream; connect [::ffff:93.184.216.34]:443; send 5; recv",
        WORLD,
    ),
    row(
        "tcp through a door into a private range",
        "socket inet stream; connect 10.20.0.5:5432; send 5; recv",
        Arrival::World(&["10.20.0.5"]),
    ),
    row(
        "tcp after a bind to port 0",
        "socket inet stream; bind 0.0.0.0:0; connect 93.184.216.34:443; send 5; recv",
        WORLD,
    ),
    row(
        "tcp connected again to an allowed address",
        "socket inet stream; connect 93.184.216.34:443; send 5; connect unspec; \
         connect 185.199.110.8:8443; send 5; recv",
        Arrival::World(&["185.199.110.8"]),
    ),
    row(
        "udp, connected",
        "socket inet dgram; connect 93.184.216.34:443; send 5; recv",
        WORLD,
    ),
    row(
        "udp, unconnected",
        "socket inet dgram; sendto 93.184.216.34:9000 5; recv",
        WORLD,
    ),
    row(
        "udp, many in one call",
        "socket inet dgram; sendmmsg 93.184.216.34:9000 93.184.216.34:443; recv",
        WORLD,
    ),
    row(
        "udp, connected to one and sent to another allowed port",
        "socket inet dgram; connect 93.184.216.34:443; sendto 93.184.216.34:9000 5; send 5; recv",
        WORLD,
    ),
    row(
        "udp over ipv6",
        "socket inet6 dgram; sendto [2606:2800:220:1::34]:443 5; recv",
        WORLD6,
    ),
    row(
        "udp from an ipv6 socket to a v4-mapped address",
        "socket inet6 dgram; sendto [::ffff:93.184.216.34]:443 5; recv",
        WORLD,
    ),
    row(
        "udp from an ipv6 socket to an ipv4 address",
        "socket inet6 dgram; sendto 93.184.216.34:443 5; recv",
        WORLD,
    ),
    row(
        "udp, more than one packet long",
        "socket inet dgram; sendto 93.184.216.34:9000 4000; recv",
        WORLD,
    ),
];
