//! Which sockets are taken.

use std::{
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use super::{Error, PORT_MAX, Sockets};

#[test]
fn only_privileged_ports_are_bound() {
    for port in [0, PORT_MAX + 1, 5_353] {
        assert!(matches!(Sockets::bind(Some(port)), Err(Error::Port(_))));
    }
    let sockets = Sockets::bind(None).expect("a free port below 1024");
    assert!((512..=PORT_MAX).contains(&sockets.port()));
    let again = Sockets::bind(Some(sockets.port()));
    assert!(matches!(again, Err(Error::Socket { .. })));
    let other = Sockets::bind(None).expect("another free port");
    assert_ne!(other.port(), sockets.port());
}

#[test]
fn sockets_are_adopted_whole_or_not_at_all() {
    let own = Sockets::bind(None).expect("a free port below 1024");
    let port = own.port();
    let fds: Vec<OwnedFd> = own
        .udp
        .into_iter()
        .map(OwnedFd::from)
        .chain(own.tcp.into_iter().map(OwnedFd::from))
        .collect();
    let twice: Vec<OwnedFd> = fds
        .iter()
        .chain(fds.first())
        .map(|fd| fd.try_clone().expect("a descriptor"))
        .collect();
    assert!(matches!(Sockets::adopt(twice), Err(Error::Adopted(_))));
    let udp = fds
        .first()
        .expect("a socket")
        .try_clone()
        .expect("a descriptor");
    assert!(matches!(Sockets::adopt(vec![udp]), Err(Error::Adopted(_))));
    let adopted = Sockets::adopt(fds).expect("the four sockets");
    assert_eq!(adopted.port(), port);
    assert!(matches!(Sockets::adopt(Vec::new()), Err(Error::Adopted(_))));
    let high = [
        OwnedFd::from(UdpSocket::bind("127.0.0.1:0").expect("a socket")),
        OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a socket")),
    ];
    for socket in high {
        assert!(matches!(Sockets::adopt(vec![socket]), Err(Error::Port(_))));
    }
}
