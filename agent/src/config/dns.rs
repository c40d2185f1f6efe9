//! `[dns]` of the agent's configuration: whom the resolver asks, how it refuses, how much a worker
//! may ask. It knows nothing of how names are resolved.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;

use super::{file::Error, place::Place};

/// Servers that can be named.
pub const UPSTREAMS_MAX: usize = 8;
/// First port that any user may bind: the resolver's lies below, so that nobody else can become it.
pub const PORTS_FREE_FROM: u16 = 1_024;
/// Longest certificate name, bytes (a name of DNS without its trailing dot).
const NAME_BYTES_MAX: usize = 253;
/// Bounds of what a worker may ask, and what it may where nothing is said.
const QUERIES_MAX: u32 = 100_000;
const QUERIES_DEFAULT: u32 = 1_000;
const BURST_DEFAULT: u32 = 2_000;
const WILDCARD_MAX: u32 = 1_000_000;
const WILDCARD_NAMES_DEFAULT: u32 = 120;
const WILDCARD_BYTES_DEFAULT: u32 = 4_096;
/// Where Debian and others keep the certificates of the authorities that a host trusts.
const ROOTS_DEFAULT: &str = "/etc/ssl/certs/ca-certificates.crt";
const PLAIN_PORT: u16 = 53;
const TLS_PORT: u16 = 853;

/// How the resolver is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Whom it asks.
    pub upstreams: Upstreams,
    /// The name in the upstreams' certificates: they are asked over TLS.
    pub tls: Option<String>,
    /// PEM file of the authorities that sign those certificates.
    pub tls_roots: PathBuf,
    /// What it says to a query that it refuses.
    pub refusal: Refusal,
    /// Queries of one session in a second, over longer times.
    pub queries_per_second: u32,
    /// Queries of one session at once.
    pub burst: u32,
    /// Distinct names under wildcards that one session may ask for in a minute.
    pub wildcard_names_per_minute: u32,
    /// Bytes that the labels under wildcards may have in a minute, of one session.
    pub wildcard_bytes_per_minute: u32,
    /// The port on loopback, or the first free one from 1023 downwards.
    pub port: Option<u16>,
}

/// Whom the resolver asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// The servers of the host's `/etc/resolv.conf`.
    Host,
    /// These, in turn.
    Servers(Vec<SocketAddr>),
}

/// What a refused query is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// There is no such name: programs give up at once.
    #[default]
    Nxdomain,
    /// The server does not want to: programs may try again.
    Refused,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDns {
    upstreams: Option<toml::Spanned<toml::Value>>,
    tls: Option<toml::Spanned<String>>,
    tls_roots: Option<toml::Spanned<PathBuf>>,
    #[serde(default)]
    refusal: Refusal,
    queries_per_second: Option<toml::Spanned<i64>>,
    burst: Option<toml::Spanned<i64>>,
    wildcard_names_per_minute: Option<toml::Spanned<i64>>,
    wildcard_bytes_per_minute: Option<toml::Spanned<i64>>,
    port: Option<toml::Spanned<i64>>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            upstreams: Upstreams::Host,
            tls: None,
            tls_roots: PathBuf::from(ROOTS_DEFAULT),
            refusal: Refusal::Nxdomain,
            queries_per_second: QUERIES_DEFAULT,
            burst: BURST_DEFAULT,
            wildcard_names_per_minute: WILDCARD_NAMES_DEFAULT,
            wildcard_bytes_per_minute: WILDCARD_BYTES_DEFAULT,
            port: None,
        }
    }
}

impl RawDns {
    pub(super) fn check(self, place: &Place<'_>) -> Result<Dns, Error> {
        let Self {
            upstreams,
            tls,
            tls_roots,
            refusal,
            queries_per_second,
            burst,
            wildcard_names_per_minute,
            wildcard_bytes_per_minute,
            port,
        } = self;
        let default = Dns::default();
        let number = |value: Option<toml::Spanned<i64>>, key, default, max| match value {
            None => Ok(default),
            Some(value) => within(place, &value, key, max),
        };
        let queries_per_second = number(
            queries_per_second,
            "dns.queries_per_second",
            default.queries_per_second,
            QUERIES_MAX,
        )?;
        let max = QUERIES_MAX;
        let least = queries_per_second.max(default.burst);
        let burst_number = number(burst.clone(), "dns.burst", least, max)?;
        if let Some(burst) = burst.filter(|_| burst_number < queries_per_second) {
            let message = format!(
                "{burst_number} is less than `queries_per_second` ({queries_per_second})\nhint: a burst holds at least one second's queries",
            );
            return Err(place.value(&burst, "dns.burst", message));
        }
        let tls = tls.map(|name| certificate_name(place, &name)).transpose()?;
        let upstreams = servers(place, upstreams, tls.is_some())?;
        if let (Upstreams::Host, Some((_, name))) = (&upstreams, &tls) {
            let message = "the servers of /etc/resolv.conf are asked without TLS\nhint: `upstreams = [\"192.0.2.53\"]` names servers that speak it";
            return Err(place.value(name, "dns.tls", message.to_owned()));
        }
        Ok(Dns {
            upstreams,
            tls: tls.map(|(name, _)| name),
            tls_roots: tls_roots.map_or(Ok(default.tls_roots), |path| {
                place.absolute(&path, "dns.tls_roots")
            })?,
            refusal,
            queries_per_second,
            burst: burst_number,
            wildcard_names_per_minute: number(
                wildcard_names_per_minute,
                "dns.wildcard_names_per_minute",
                default.wildcard_names_per_minute,
                WILDCARD_MAX,
            )?,
            wildcard_bytes_per_minute: number(
                wildcard_bytes_per_minute,
                "dns.wildcard_bytes_per_minute",
                default.wildcard_bytes_per_minute,
                WILDCARD_MAX,
            )?,
            port: port.map(|port| low_port(place, &port)).transpose()?,
        })
    }
}

fn within(
    place: &Place<'_>,
    value: &toml::Spanned<i64>,
    key: &'static str,
    max: u32,
) -> Result<u32, Error> {
    let number = u32::try_from(*value.get_ref()).ok();
    number
        .filter(|number| (1..=max).contains(number))
        .ok_or_else(|| {
            let message = format!("{} is not within 1 and {max}", value.get_ref());
            place.value(value, key, message)
        })
}

fn low_port(place: &Place<'_>, value: &toml::Spanned<i64>) -> Result<u16, Error> {
    let port = u16::try_from(*value.get_ref()).ok();
    port.filter(|port| (1..PORTS_FREE_FROM).contains(port))
        .ok_or_else(|| {
            let last = PORTS_FREE_FROM.saturating_sub(1);
            let message = format!(
                "{} is not within 1 and {last}\nhint: a port that only root can bind keeps others from answering in the resolver's place",
                value.get_ref()
            );
            place.value(value, "dns.port", message)
        })
}

fn certificate_name(
    place: &Place<'_>,
    name: &toml::Spanned<String>,
) -> Result<(String, toml::Spanned<String>), Error> {
    let text = name.get_ref().as_str();
    let shaped = !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text
            .split('.')
            .all(|label| !label.is_empty() && label.chars().all(is_of_label));
    if shaped {
        return Ok((text.to_ascii_lowercase(), name.clone()));
    }
    let message = format!(
        "`{}` is no name of a server\nhint: the name in its certificate, such as `dns.example`",
        text.escape_debug()
    );
    Err(place.value(name, "dns.tls", message))
}

fn is_of_label(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '-'
}

fn servers(
    place: &Place<'_>,
    value: Option<toml::Spanned<toml::Value>>,
    tls: bool,
) -> Result<Upstreams, Error> {
    let Some(value) = value else {
        return Ok(Upstreams::Host);
    };
    let wrong = |what: &str| {
        let message = format!("{what}\nhint: `\"host\"`, or a list such as `[\"192.0.2.53\"]`");
        Err(place.value(&value, "dns.upstreams", message))
    };
    let given = value.get_ref();
    if given.as_str() == Some("host") {
        return Ok(Upstreams::Host);
    }
    let Some(list) = given.as_array() else {
        return wrong(&format!("`{given}` is neither `\"host\"` nor a list"));
    };
    if list.is_empty() {
        return wrong("the list is empty");
    }
    if list.len() > UPSTREAMS_MAX {
        return wrong(&format!("more than {UPSTREAMS_MAX} servers"));
    }
    let mut servers = Vec::new();
    for entry in list {
        let Some(server) = entry.as_str().and_then(|text| server(text, tls)) else {
            return wrong(&format!("`{entry}` is no address of a server"));
        };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    Ok(Upstreams::Servers(servers))
}

/// An address, with a port or without.
fn server(text: &str, tls: bool) -> Option<SocketAddr> {
    let port = if tls { TLS_PORT } else { PLAIN_PORT };
    let address: SocketAddr = text
        .parse()
        .or_else(|_no_port| text.parse::<IpAddr>().map(|ip| (ip, port).into()))
        .ok()?;
    let usable = address.port() != 0
        && !address.ip().is_unspecified()
        && !address.ip().to_canonical().is_multicast();
    usable.then_some(address)
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nxdomain => "nxdomain",
            Self::Refused => "refused",
        })
    }
}

#[cfg(test)]
mod tests;
