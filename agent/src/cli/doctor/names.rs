//! Whether names can resolve: servers that answer, and a port to listen on.

use std::{fs, net::SocketAddr, path::Path};

use super::host::{Check, State};
use crate::{
    config::{Dns, Upstreams},
    daemon::{chain, told, upstream},
    dns::{self, Inquiry, RESOLV_CONF, Sockets},
};

/// Rows of the resolver.
pub(super) fn checks(dns: &Dns) -> Vec<Check> {
    let mut checks = vec![upstreams(dns), port(dns)];
    if dns.tls.is_some() {
        checks.push(roots(dns));
    }
    checks
}

const UPSTREAMS: &str = "resolver upstreams";

/// Asks each server for the name servers of the root.
fn upstreams(dns: &Dns) -> Check {
    match servers(dns, Path::new(RESOLV_CONF)) {
        Ok(servers) if servers.is_empty() => {
            let detail = format!("{RESOLV_CONF} names no server: names do not resolve");
            let fix = "a `nameserver` line there, or `upstreams` under `[dns]` in stockade.toml";
            return Check::gap(UPSTREAMS, State::Weaker, detail, fix);
        }
        Ok(_) => {}
        Err(error) => {
            let fix = "`upstreams = [\"192.0.2.53\"]` under `[dns]` names servers";
            let detail = format!("{RESOLV_CONF}: {error}");
            return Check::gap(UPSTREAMS, State::Weaker, detail, fix);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = match runtime {
        Ok(runtime) => runtime.block_on(dns::inquire(&upstream(dns))),
        Err(error) => {
            let fix = "free descriptors or memory, and run it again";
            return Check::gap(UPSTREAMS, State::Weaker, error.to_string(), fix);
        }
    };
    match asked {
        Ok(inquiries) => heard(&inquiries, dns.tls.as_deref()),
        Err(error) => {
            let fix = "without it the agent does not start";
            Check::gap(UPSTREAMS, State::Missing, told(&error), fix)
        }
    }
}

/// The servers that the resolver would ask.
fn servers(dns: &Dns, host: &Path) -> std::io::Result<Vec<SocketAddr>> {
    match &dns.upstreams {
        Upstreams::Servers(servers) => Ok(servers.clone()),
        Upstreams::Host => dns::host_servers(host),
    }
}

fn heard(inquiries: &[Inquiry], tls: Option<&str>) -> Check {
    let told: Vec<_> = inquiries
        .iter()
        .map(|Inquiry { server, answer }| match answer {
            Ok(took) => format!("{server} answers in {} ms", took.as_millis()),
            Err(error) => format!("{server}: {}", chain(error)),
        })
        .collect();
    let how = tls.map(|name| format!(" (over TLS, as {name})"));
    let detail = format!("{}{}", told.join(", "), how.unwrap_or_default());
    let answering = inquiries
        .iter()
        .filter(|inquiry| inquiry.answer.is_ok())
        .count();
    if answering == inquiries.len() {
        return Check::ok(UPSTREAMS, detail);
    }
    let fix = if answering == 0 {
        "names do not resolve until one of them answers from this host: look at its address, the way there, and with TLS at `tls` and `tls_roots` under `[dns]`"
    } else {
        "the others serve; take out what is gone"
    };
    Check::gap(UPSTREAMS, State::Weaker, detail, fix)
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
    use std::{fs, time::Duration};

    use super::{Check, Dns, Inquiry, Upstreams, heard, servers};
    use crate::dns::AskError;

    #[test]
    fn servers_are_read_as_the_resolver_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let text = "# nameserver 192.0.2.1\nsearch a.example\nnameserver 192.0.2.2 # near\n\
                    nameserver fe80::1%eth0\nnameserver\t2001:db8::1\n";
        fs::write(&path, text).expect("written");
        let dns = Dns::default();
        let known = servers(&dns, &path).expect("servers");
        let expected = ["192.0.2.2:53", "[2001:db8::1]:53"].map(|text| text.parse().expect("one"));
        assert_eq!(known, expected);
        fs::remove_file(&path).expect("removed");
        assert!(servers(&dns, &path).is_err());
        let dns = Dns {
            upstreams: Upstreams::Servers(expected.to_vec()),
            ..dns
        };
        assert_eq!(servers(&dns, &path).expect("servers"), expected);
    }

    #[test]
    fn one_server_that_answers_is_enough_and_the_others_are_named() {
        let inquiry = |alive| Inquiry {
            server: "192.0.2.53:53".parse().expect("address"),
            answer: if alive {
                Ok(Duration::from_millis(7))
            } else {
                Err(AskError::TimedOut)
            },
        };
        for (alive, detail) in [
            (vec![true], "192.0.2.53:53 answers in 7 ms"),
            (
                vec![true, false],
                "192.0.2.53:53 answers in 7 ms, 192.0.2.53:53: no answer in time",
            ),
            (vec![false], "192.0.2.53:53: no answer in time"),
        ] {
            let is_whole = alive.iter().all(|alive| *alive);
            let inquiries: Vec<_> = alive.into_iter().map(inquiry).collect();
            let check = heard(&inquiries, None);
            assert_eq!(check.cells()[2], detail);
            assert_eq!(check.remedy().is_none(), is_whole);
            // The host may resolve names later; fences stand without.
            assert!(Check::is_no_obstacle(&check));
        }
    }
}
