//! Destinations on a command line: addresses, names, URLs.

use std::{net::IpAddr, path::PathBuf};

use common::flow::{Address, TCP, UDP};

use super::super::domain::{DomainError, DomainName};

/// Schemes of URLs that are understood, with the port they stand for.
const SCHEMES: &[(&str, u16)] = &[("https", 443), ("wss", 443), ("http", 80), ("ws", 80)];

/// What is asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// An address.
    Address(Destination),
    /// A name.
    Name(NamedDestination),
    /// A unix socket, by its absolute path.
    Unix(PathBuf),
}

/// An address: `ADDRESS:PORT`, `[v6]:PORT`, with `/tcp` or `/udp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Where.
    pub address: Address,
    /// Port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u16,
}

/// A name: `NAME:PORT`, with `/tcp` or `/udp`, or `https://NAME[:PORT]/path`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedDestination {
    /// The name.
    pub name: DomainName,
    /// Port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u16,
}

/// The text names no destination.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DestinationError {
    /// The protocol is another.
    #[error("protocol `{0}` is neither `tcp` nor `udp`\nhint: only TCP and UDP leave a fence")]
    Protocol(String),
    /// The scheme of a URL is another.
    #[error(
        "scheme `{0}` is not known\nhint: write it like `api.example.com:443`, with `/udp` if it is meant"
    )]
    Scheme(String),
    /// No port.
    #[error(
        "destination `{0}` has no port from 1 to 65535\nhint: write it like `192.0.2.7:443`, `[2001:db8::7]:443/udp` or `https://api.example.com/`"
    )]
    Port(String),
    /// A name where an address is wanted.
    #[error("destination `{0}` is a name\nhint: write an address, like `192.0.2.7:443`")]
    Name(DomainName),
    /// A path where an address is wanted.
    #[error("destination `{}` is a unix socket\nhint: write an address, like `192.0.2.7:443`", .0.display())]
    Unix(PathBuf),
    /// Not a name.
    #[error("destination {0}\nhint: {hint}", hint = .0.hint())]
    Domain(#[from] DomainError),
    /// Not an address.
    #[error(
        "destination `{0}` is no address\nhint: write it like `192.0.2.7:443` or `[2001:db8::7]:443/udp`"
    )]
    Address(String),
}

impl std::str::FromStr for Asked {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let known = SCHEMES
                .iter()
                .find(|(name, _)| scheme.eq_ignore_ascii_case(name));
            let (_, default) = known.ok_or_else(|| DestinationError::Scheme(scheme.to_owned()))?;
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return host_and_port(text, host, Some(*default), TCP);
        }
        let (place, protocol) = match text.rsplit_once('/') {
            Some((place, "tcp")) => (place, TCP),
            Some((place, "udp")) => (place, UDP),
            Some((_, other)) => return Err(DestinationError::Protocol(other.to_owned())),
            None => (text, TCP),
        };
        host_and_port(text, place, None, protocol)
    }
}

impl std::str::FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            Asked::Address(destination) => Ok(destination),
            Asked::Name(destination) => Err(DestinationError::Name(destination.name)),
            Asked::Unix(path) => Err(DestinationError::Unix(path)),
        }
    }
}

fn host_and_port(
    text: &str,
    place: &str,
    default: Option<u16>,
    protocol: u16,
) -> Result<Asked, DestinationError> {
    let no_port = || DestinationError::Port(text.to_owned());
    let whole_v6 = place.starts_with('[') && place.ends_with(']');
    let (host, port) = match place.rsplit_once(':').filter(|_| !whole_v6) {
        Some((host, port)) => {
            // `+443` would be read as a number.
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            (host, port.parse().ok().filter(|_| digits))
        }
        None => (place, default),
    };
    let port = port.filter(|port| *port > 0).ok_or_else(no_port)?;
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ip: Option<IpAddr> = match v6 {
        Some(host) => host.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    };
    if let Some(ip) = ip {
        return Ok(Asked::Address(Destination {
            address: Address::from(ip),
            port,
            protocol,
        }));
    }
    if host.contains([':', '[', ']']) || !host.contains(|c: char| c.is_alphabetic()) {
        return Err(DestinationError::Address(host.to_owned()));
    }
    Ok(Asked::Name(NamedDestination {
        name: DomainName::parse(host)?,
        port,
        protocol,
    }))
}
