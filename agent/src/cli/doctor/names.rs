//! Whether names can resolve: servers to ask, and a port to listen on.

use std::fs;

use super::host::{Check, State};
use crate::{
    config::{Dns, Upstreams},
    daemon::told,
    dns::{RESOLV_CONF, Sockets},
};

/// Rows of the resolver.
pub(super) fn checks(dns: &Dns) -> Vec<Check> {
    let mut checks = vec![upstreams(dns), port(dns)];
    if dns.tls.is_some() {
        checks.push(roots(dns));
    }
    checks
}

fn upstreams(dns: &Dns) -> Check {
    const NAME: &str = "resolver upstreams";
    let servers = match &dns.upstreams {
        Upstreams::Servers(servers) => servers.iter().map(ToString::to_string).collect(),
        Upstreams::Host => match fs::read_to_string(RESOLV_CONF) {
            Ok(text) => name_servers(&text),
            Err(error) => {
                let fix = "`upstreams = [\"192.0.2.53\"]` under `[dns]` names servers";
                return Check::gap(NAME, State::Weaker, format!("{RESOLV_CONF}: {error}"), fix);
            }
        },
    };
    if servers.is_empty() {
        let detail = format!("{RESOLV_CONF} names no server: names do not resolve");
        let fix = "a `nameserver` line there, or `upstreams` under `[dns]` in stockade.toml";
        return Check::gap(NAME, State::Weaker, detail, fix);
    }
    Check::ok(NAME, servers.join(", "))
}

/// The servers of resolv.conf(5), as they stand there.
fn name_servers(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::split_whitespace);
    let servers = lines.filter_map(|mut words| match words.next() {
        Some("nameserver") => words.next(),
        _ => None,
    });
    servers
        .map(|server| server.escape_debug().to_string())
        .collect()
}

/// Bound and let go again. A running agent holds its own.
fn port(dns: &Dns) -> Check {
    const NAME: &str = "resolver port";
    match Sockets::bind(dns.port) {
        Ok(sockets) => Check::ok(NAME, format!("{} of loopback is free", sockets.port())),
        Err(error) => {
            let fix = "an agent that runs holds it; else leave `port` out under `[dns]`: any port below 1024 serves";
            Check::gap(NAME, State::Weaker, told(&error), fix)
        }
    }
}

fn roots(dns: &Dns) -> Check {
    const NAME: &str = "resolver authorities";
    match fs::metadata(&dns.tls_roots) {
        Ok(_) => Check::ok(NAME, dns.tls_roots.display().to_string()),
        Err(error) => {
            let detail = format!("{}: {error}", dns.tls_roots.display());
            let fix = "install ca-certificates, or name a PEM file as `tls_roots` under `[dns]`";
            Check::gap(NAME, State::Missing, detail, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Dns, Upstreams, name_servers, upstreams};

    #[test]
    fn servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 192.0.2.1\nsearch a.example\nnameserver 192.0.2.2 # near\n nameserver\t2001:db8::1\n";
        assert_eq!(name_servers(text), ["192.0.2.2", "2001:db8::1"]);
        assert!(name_servers("options edns0\n").is_empty());
    }

    #[test]
    fn named_servers_are_enough() {
        let dns = Dns {
            upstreams: Upstreams::Servers(vec!["192.0.2.53:53".parse().expect("address")]),
            ..Dns::default()
        };
        assert!(Check::is_no_obstacle(&upstreams(&dns)));
    }
}
