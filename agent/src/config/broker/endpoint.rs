//! Where something is fetched: `https` with a host, or `http` with an address of loopback where that
//! was said. One form each, so that two are the same place exactly if they are equal.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// Longest URL, bytes.
pub const URL_BYTES_MAX: usize = 1_024;
const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;

/// Whether `http` is taken, which is so for addresses of loopback alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoopbackHttp {
    /// It is not.
    Refused,
    /// It was asked for.
    Taken,
}

/// A scheme, a host and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// A name in lower case, or an address; of IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A URL without user, password and fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub origin: Origin,
    /// Path and query as they are sent: begins with `/`.
    pub target: String,
}

impl Endpoint {
    /// Reads a URL (RFC 3986) of ASCII characters.
    #[must_use]
    pub fn parse(text: &str, http: LoopbackHttp) -> Option<Self> {
        let shaped = text.len() <= URL_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && !text.contains(['#', '"', '\\', '<', '>', '^', '`', '{', '|', '}']);
        let (scheme, rest) = text.split_once("://").filter(|_| shaped)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = authority_of(authority)?;
        let port = port.unwrap_or(if tls { HTTPS_PORT } else { HTTP_PORT });
        let address: Option<IpAddr> = host.parse().ok();
        let loopback = address.is_some_and(|address| address.is_loopback());
        let taken = tls || (loopback && http == LoopbackHttp::Taken);
        taken.then(|| Self {
            origin: Origin { tls, host, port },
            target: if target.starts_with('/') {
                target.to_owned()
            } else {
                format!("/{target}")
            },
        })
    }

    /// Its path without the query and without a `/` at the end.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_suffix('/').unwrap_or(path)
    }

    /// Another target of the same origin.
    #[must_use]
    pub fn at(&self, target: String) -> Self {
        Self {
            origin: self.origin.clone(),
            target,
        }
    }
}

/// Host in its one form, and the port where it stands there.
fn authority_of(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match rest {
            "" => None,
            rest => Some(port(rest.strip_prefix(':')?)?),
        };
        return Some((address.to_string(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, digits)) => (host, Some(port(digits)?)),
        None => (authority, None),
    };
    let named = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
        });
    named.then(|| (host.to_ascii_lowercase(), port))
}

fn port(digits: &str) -> Option<u16> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| all);
    port.filter(|port| *port > 0)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl Origin {
    /// Host and port, as `Host` has them; the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let own = if self.tls { HTTPS_PORT } else { HTTP_PORT };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == own {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, LoopbackHttp};

    fn read(text: &str) -> Option<String> {
        Endpoint::parse(text, LoopbackHttp::Taken).map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn one_form_each() {
        for (text, form) in [
            ("https://Id.Example", "https://id.example/"),
            ("https://id.example:443/a", "https://id.example/a"),
            ("https://id.example:8443", "https://id.example:8443/"),
            ("https://id.example?a=b", "https://id.example/?a=b"),
            ("https://[0:0::1]:443/", "https://[::1]/"),
            ("http://127.0.0.1:80/x", "http://127.0.0.1/x"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
        ] {
            assert_eq!(read(text).as_deref(), Some(form));
        }
        let endpoint = Endpoint::parse("https://a.b/t/?q", LoopbackHttp::Refused);
        assert_eq!(endpoint.expect("a URL").path(), "/t");
    }

    #[test]
    fn what_is_no_place_to_fetch_from() {
        for text in [
            "",
            "id.example",
            "ftp://id.example",
            "HTTPS://id.example",
            "https://",
            "https:///a",
            "https://user@id.example",
            "https://id.example@evil.example/",
            "https://id.example#a",
            "https://id.example\\@evil",
            "https://id example/",
            "https://id..example",
            "https://id.example:0",
            "https://id.example:",
            "https://id.example:65536",
            "https://id.example:+1",
            "https://[::1",
            "https://[::1]x",
            "https://[id.example]",
            "http://id.example",
            "http://localhost/",
            "http://127.0.0.1.example/",
            "http://10.0.0.1/",
            "https://idé.example",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let plain = "http://127.0.0.1:8080/";
        assert_eq!(Endpoint::parse(plain, LoopbackHttp::Refused), None);
        let long = format!("https://id.example/{}", "a".repeat(1_024));
        assert_eq!(read(&long), None);
    }
}
