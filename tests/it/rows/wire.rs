//! Packets that would go another way than their socket's address says, and what options change.

use super::{Arrival, EPERM, NO_OPTION, Outcome, Row};

const OTHER: Arrival = Arrival::World(&["1.2.3.4"]);
const OTHER6: Arrival = Arrival::World(&["2a00:1450::8"]);
const ALLOWED: Arrival = Arrival::World(&["93.184.216.34"]);

pub(super) const ROWS: &[Row] = &[
    Row::refused(
        "routing header, udp: to an allowed address by way of another",
        "socket inet6 dgram; opt ip6.rthdr rthdr 2a00:1450::8; sendto [2606:2800:220:1::34]:443 5",
        OTHER6,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "routing header, tcp",
        "socket inet6 stream; opt ip6.rthdr rthdr 2a00:1450::8; \
         try connect [2606:2800:220:1::34]:443; try send 5",
        OTHER6,
        Outcome::Silent,
        NO_OPTION,
    ),
    Row::refused(
        "routing header by control message",
        "socket inet6 dgram; sendmsg [2606:2800:220:1::34]:443 5 rthdr2=2a00:1450::8",
        OTHER6,
        Outcome::Silent,
        Outcome::Silent,
    )
    .lackable(),
    Row::refused(
        "hop-by-hop header to an allowed address",
        "socket inet6 dgram; opt ip6.hopopts hex 0000010400000000; \
         sendto [2606:2800:220:1::35]:443 5",
        Arrival::World(&["2606:2800:220:1::35"]),
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "destination options by control message",
        "socket inet6 dgram; sendmsg [2606:2800:220:1::36]:443 5 dstopts=0000010400000000",
        Arrival::World(&["2606:2800:220:1::36"]),
        EPERM,
        EPERM,
    ),
    Row::refused(
        "loose source route, udp",
        "socket inet dgram; opt ip.options lsrr 1.2.3.4; sendto 93.184.216.34:443 5",
        OTHER,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "loose source route, tcp",
        "socket inet stream; opt ip.options lsrr 1.2.3.4; try connect 93.184.216.34:443",
        OTHER,
        Outcome::Silent,
        NO_OPTION,
    ),
    Row::refused(
        "loose source route by control message",
        "socket inet dgram; sendmsg 93.184.216.34:443 5 lsrr=1.2.3.4",
        OTHER,
        EPERM,
        EPERM,
    ),
    Row::refused(
        "ip options on a connected socket",
        "socket inet dgram; connect 93.184.216.34:443; opt ip.options lsrr 1.2.3.4; \
         connect 93.184.216.34:443; send 5",
        OTHER,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "mark, then another host",
        "socket inet stream; opt so.mark int 7; connect 1.2.3.4:443; send 5",
        OTHER,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "bound to a device, then another host",
        "socket inet stream; opt so.bindtodevice str h0; connect 1.2.3.4:443; send 5",
        OTHER,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "transparent, foreign source",
        "socket inet dgram; opt ip.transparent int 1; bind 9.9.9.9:0; sendto 1.2.3.4:443 5",
        OTHER,
        EPERM,
        NO_OPTION,
    ),
    Row::refused(
        "source by control message, then another host",
        "socket inet dgram; sendmsg 1.2.3.4:443 5 pktinfo=45.79.1.1",
        OTHER,
        EPERM,
        EPERM,
    ),
    Row::refused(
        "device by control message",
        "socket inet dgram; sendmsg 1.2.3.4:443 5 device=2",
        OTHER,
        EPERM,
        EPERM,
    ),
    Row::refused(
        "segmentation offload to another host",
        "socket inet dgram; sendmsg 1.2.3.4:443 4000 segment=1000",
        OTHER,
        EPERM,
        EPERM,
    ),
    Row::refused(
        "zero copy to another host",
        "socket inet dgram; opt so.zerocopy int 1; sendto 1.2.3.4:443 500 zerocopy",
        OTHER,
        EPERM,
        Outcome::Silent,
    ),
    Row::refused(
        "without a route to another host",
        "socket inet dgram; sendto 45.33.32.200:443 5 dontroute",
        Arrival::World(&["45.33.32.200"]),
        EPERM,
        EPERM,
    ),
    Row {
        bare: Outcome::Works,
        hooks: Outcome::Silent,
        fence: Outcome::Silent,
        ..Row::refused(
            "corked towards an allowed address, then another",
            "socket inet dgram; sendto 93.184.216.34:443 5 more; try sendto 1.2.3.4:443 5; \
             socket inet dgram; try sendto 1.2.3.4:443 5",
            OTHER,
            EPERM,
            EPERM,
        )
    },
    Row {
        hooks: Outcome::Silent,
        fence: Outcome::Silent,
        ..Row::refused(
            "race of connects against sends, udp",
            "socket inet dgram; race 93.184.216.34:443 1.2.3.4:443 400",
            OTHER,
            EPERM,
            EPERM,
        )
    },
    Row {
        hooks: Outcome::Silent,
        fence: Outcome::Silent,
        ..Row::refused(
            "race of connects against sends, tcp",
            "socket inet stream; race 93.184.216.34:443 1.2.3.4:443 400",
            OTHER,
            EPERM,
            EPERM,
        )
    },
    Row {
        hooks: Outcome::Works,
        fence: NO_OPTION,
        ..Row::refused(
            "flow label to an allowed address",
            "socket inet6 dgram; opt ip6.autoflowlabel int 1; sendto [2606:2800:220:1::37]:443 5",
            Arrival::World(&["2606:2800:220:1::37"]),
            EPERM,
            EPERM,
        )
    },
    Row::refused(
        "flow label to another host",
        "socket inet6 dgram; opt ip6.autoflowlabel int 1; sendto [2a00:1450::8]:443 5",
        OTHER6,
        EPERM,
        NO_OPTION,
    ),
    Row {
        hooks: Outcome::Works,
        fence: Outcome::Works,
        ..Row::refused(
            "segmentation offload to an allowed address",
            "socket inet dgram; sendmsg 93.184.216.34:9000 4000 segment=1000; recv",
            ALLOWED,
            EPERM,
            EPERM,
        )
    },
];
