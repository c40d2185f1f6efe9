//! The resolver's four sockets: UDP and TCP on both loopback addresses, one port below 1024, so that
//! nobody without privilege can become the resolver.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    os::fd::OwnedFd,
};

use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::error::Error;

/// Ports to choose from, the last first. Those below 512 belong to well-known services.
const PORTS: RangeInclusive<u16> = 512..=PORT_MAX;
/// The last port that needs privilege.
pub const PORT_MAX: u16 = 1_023;
/// Where it listens.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// Bound sockets. A host without IPv6 has only those of 127.0.0.1.
#[derive(Debug)]
pub struct Sockets {
    port: u16,
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Binds this port, or the first that is free from 1023 downwards.
    pub fn bind(port: Option<u16>) -> Result<Self, Error> {
        if let Some(port) = port {
            if port == 0 || port > PORT_MAX {
                return Err(Error::Port(port));
            }
            return Self::open(port);
        }
        for port in PORTS.rev() {
            match Self::open(port) {
                Err(error) if is_taken(&error) => {}
                other => return other,
            }
        }
        Err(Error::NoPort)
    }

    /// Takes over sockets that somebody else holds, such as a socket unit.
    pub fn adopt(sockets: Vec<OwnedFd>) -> Result<Self, Error> {
        let mut adopted = Self {
            port: 0,
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        let mut seen = Vec::new();
        for socket in sockets {
            let bad = |source: &dyn std::fmt::Display| Error::Adopted(source.to_string());
            let kind = getsockopt(&socket, sockopt::SockType).map_err(|errno| bad(&errno))?;
            let address = if kind == SockType::Datagram {
                let socket = UdpSocket::from(socket);
                let address = socket.local_addr().map_err(|error| bad(&error))?;
                adopted.udp.push(socket);
                address
            } else {
                let listening =
                    getsockopt(&socket, sockopt::AcceptConn).map_err(|errno| bad(&errno))?;
                let socket = TcpListener::from(socket);
                let address = socket.local_addr().map_err(|error| bad(&error))?;
                if !listening {
                    return Err(Error::Adopted(format!("{address} does not listen")));
                }
                adopted.tcp.push(socket);
                address
            };
            let port = address.port();
            let same = adopted.port == 0 || adopted.port == port;
            let place = (kind == SockType::Datagram, address.ip());
            if !LOOPBACK.contains(&address.ip()) || !same || seen.contains(&place) {
                return Err(Error::Adopted(format!("{address} does not belong there")));
            }
            if port == 0 || port > PORT_MAX {
                return Err(Error::Port(port));
            }
            seen.push(place);
            adopted.port = port;
        }
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if !seen.contains(&(true, v4)) || !seen.contains(&(false, v4)) {
            return Err(Error::Adopted(
                "UDP or TCP of 127.0.0.1 is missing".to_owned(),
            ));
        }
        adopted.set_nonblocking()?;
        Ok(adopted)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// On a port of the kernel's choice: free for the first socket, perhaps not for the other three.
    #[cfg(test)]
    pub(super) fn anywhere() -> Result<Self, Error> {
        const TRIES: usize = 100;
        let mut tries = std::iter::repeat_with(|| Self::open(0)).take(TRIES);
        let free = |opened: &Result<Self, Error>| !opened.as_ref().is_err_and(is_taken);
        tries.find(free).unwrap_or(Err(Error::NoPort))
    }

    pub(super) fn open(port: u16) -> Result<Self, Error> {
        let mut sockets = Self {
            port,
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for ip in LOOPBACK {
            let failed = |source| Error::Socket {
                address: SocketAddr::new(ip, port),
                source,
            };
            // 0, which only tests ask for, is the kernel's choice, and then the same for all four.
            let address = SocketAddr::new(ip, sockets.port);
            let udp = match UdpSocket::bind(address) {
                Err(error) if ip.is_ipv6() && has_no_ipv6(&error) => continue,
                other => other.map_err(failed)?,
            };
            sockets.port = udp.local_addr().map_err(failed)?.port();
            let address = SocketAddr::new(ip, sockets.port);
            sockets.udp.push(udp);
            sockets
                .tcp
                .push(TcpListener::bind(address).map_err(failed)?);
        }
        sockets.set_nonblocking()?;
        Ok(sockets)
    }

    fn set_nonblocking(&self) -> Result<(), Error> {
        let failed = |source| Error::Socket {
            address: SocketAddr::new(LOOPBACK[0], self.port),
            source,
        };
        for socket in &self.udp {
            socket.set_nonblocking(true).map_err(failed)?;
        }
        for socket in &self.tcp {
            socket.set_nonblocking(true).map_err(failed)?;
        }
        Ok(())
    }
}

fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Socket { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

#[cfg(test)]
mod tests;
