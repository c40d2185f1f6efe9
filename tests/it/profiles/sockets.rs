//! Every family, type and protocol that a socket can be asked for, and every socket option by level.

use super::with_profile;
use crate::fence::{
    probe::{OTHER, Row, check_with, row},
    room::with_room,
};

/// What is made, or set: all else is refused with an errno of the filter's.
const DEFINITIONS: &str = r"
def makes(*arguments):
    try:
        socket.socket(*arguments).close()
    except OSError as error:
        return error.errno not in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
    return True
def families(kinds=(1, 2, 3, 5)):
    return ','.join(str(family) for family in range(64) if any(makes(family, kind) for kind in kinds))
def kinds(family, protocols):
    return ' '.join('%d/%d' % (kind, protocol) for kind in range(11) for protocol in protocols
                    if makes(family, kind, protocol))
def pairs():
    made = []
    for family in range(64):
        for kind in range(11):
            try:
                for end in socket.socketpair(family, kind):
                    end.close()
            except OSError as error:
                if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
                    continue
                if family != socket.AF_UNIX:
                    continue
            made.append('%d/%d' % (family, kind))
    return ' '.join(made)
def settable(level, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    names = []
    for name in range(256):
        with socket.socket(family, kind) as s:
            try:
                s.setsockopt(level, name, bytes(4))
            except OSError as error:
                if error.errno == errno.EPERM:
                    continue
        names.append(name)
    return ','.join(map(str, names)) or 'none'
def upper(level, name):
    with socket.socket() as s:
        call(54, s.fileno(), level, name, bytes(4), 4)
IP = (0, 1, 2, 6, 17, 33, 58, 132, 136, 255, 262)
";

const DEFAULT: &[Row] = &[
    row("families", "families()", "2,10,16", OTHER),
    row("inet", "kinds(2, IP)", "1/0 1/6 2/0 2/17", OTHER),
    row("inet6", "kinds(10, IP)", "1/0 1/6 2/0 2/17", OTHER),
    row("netlink", "kinds(16, range(32))", "2/0 3/0", OTHER),
    row("pairs", "pairs()", "1/1", OTHER),
    row(
        "socket",
        "settable(1)",
        "2,6,7,8,9,10,13,15,16,18,20,21,66,67",
        OTHER,
    ),
    row("ipv4", "settable(0)", "1,2,8,10,11,12,13,24,49", OTHER),
    row(
        "ipv4 of ipv6",
        "settable(0, socket.AF_INET6)",
        "1,2,8,10,11,12,13,24,49",
        OTHER,
    ),
    row(
        "ipv4 of udp",
        "settable(0, kind=socket.SOCK_DGRAM)",
        "1,2,8,10,11,12,13,24,49",
        OTHER,
    ),
    row(
        "ipv6",
        "settable(41, socket.AF_INET6)",
        "16,18,23,25,26,29,49,51,62,66,67,72",
        OTHER,
    ),
    row(
        "ipv6 of udp",
        "settable(41, socket.AF_INET6, socket.SOCK_DGRAM)",
        "16,18,23,25,26,29,49,51,62,66,67,72",
        OTHER,
    ),
    row(
        "tcp",
        "settable(6)",
        "1,2,3,4,5,6,7,8,9,10,12,18,25,30,36",
        OTHER,
    ),
    row("udp", "settable(17, kind=socket.SOCK_DGRAM)", "none", OTHER),
    row("raw", "settable(255)", "none", OTHER),
    row("icmpv6", "settable(58, socket.AF_INET6)", "none", OTHER),
    row("packet", "settable(263)", "none", OTHER),
    row("tls", "settable(282)", "none", OTHER),
    row("mptcp", "settable(284)", "none", OTHER),
    row(
        "netlink options",
        "settable(270, socket.AF_NETLINK, socket.SOCK_RAW)",
        "3,10,11,12",
        OTHER,
    ),
];

/// Of 64-bit x86: by the call's number.
#[cfg(target_arch = "x86_64")]
const UPPER: &[Row] = &[
    row(
        "family",
        "call(41, 40 | 1 << 32, 1, 0)",
        "EAFNOSUPPORT",
        OTHER,
    ),
    row(
        "protocol",
        "call(41, 2, 1, 262 | 1 << 32)",
        "EPROTONOSUPPORT",
        OTHER,
    ),
    row("level", "upper(1 << 32, 4)", "EPERM", OTHER),
    row("option", "upper(1, 36 | 1 << 32)", "EPERM", "ok"),
    row("listed", "upper(6 | 1 << 32, 1 | 1 << 32)", "ok", "ok"),
];

#[test]
fn sockets_and_options_of_a_network_client_only() {
    with_room(async |room| {
        check_with(room, &with_profile("default"), DEFINITIONS, DEFAULT).await;
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn upper_halves_change_nothing() {
    with_room(async |room| check_with(room, &with_profile("default"), DEFINITIONS, UPPER).await);
}

#[test]
fn every_profile_has_the_same_families_but_unix_streams() {
    with_room(async |room| {
        let strict = [row("families", "families()", "2,10,16", OTHER)];
        check_with(room, &with_profile("strict"), DEFINITIONS, &strict).await;
        // Landlock scopes abstract names from its ABI 6 on; without that there are none.
        let scoped = agent::sys::landlock::abi().is_ok_and(|abi| abi >= 6);
        let (families, unix) = if scoped {
            ("1,2,10,16", "1/0 1/1")
        } else {
            ("2,10,16", "")
        };
        let interpreter = [
            row("families", "families()", families, OTHER),
            row("unix", "kinds(1, (0, 1, 2, 6))", unix, OTHER),
        ];
        check_with(
            room,
            &with_profile("interpreter"),
            DEFINITIONS,
            &interpreter,
        )
        .await;
    });
}

/// Names in the worker's own folders work; abstract ones do not lead out.
#[test]
fn named_streams_of_an_interpreter_stay_inside() {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    };

    let name = format!("stockade-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("a listener of the host");
    let definitions = format!(
        r"
def own(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    server, _ = listener.accept()
    client.send(b'hello')
    assert server.recv(5) == b'hello'
    for end in (listener, client, server):
        end.close()
def outside():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect('\0{name}')
"
    );
    let folder = "own(tempfile.mkdtemp() + '/s')";
    with_room(async |room| {
        let rows = [
            row("by path", folder, "ok", "ok"),
            row("abstract", "outside()", "EPERM", "ok"),
        ];
        check_with(room, &with_profile("interpreter"), &definitions, &rows).await;
    });
}
