//! `[dns]` in, settings or the place of the mistake out.

use std::path::Path;

use expect_test::{Expect, expect};

use super::{Dns, Refusal, Upstreams};
use crate::config::Config;

fn parse(lines: &str) -> Result<Dns, String> {
    let text = format!("[dns]\n{lines}\n");
    let config = Config::parse(Path::new("stockade.toml"), &text);
    config
        .map(|config| config.dns)
        .map_err(|error| error.to_string())
}

fn check_error(lines: &str, expected: &Expect) {
    expected.assert_eq(&parse(lines).expect_err("must be refused"));
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(parse(""), Ok(Dns::default()));
    assert_eq!(parse("upstreams = \"host\""), Ok(Dns::default()));
}

#[test]
fn every_key_is_read() {
    let dns = parse(
        r#"
        upstreams = ["192.0.2.53", "192.0.2.54:5353", "2001:db8::53", "[2001:db8::54]:53", "192.0.2.53:53"]
        tls_roots = "/etc/ssl/lab.pem"
        refusal = "refused"
        queries_per_second = 7
        burst = 9
        wildcard_names_per_minute = 11
        wildcard_bytes_per_minute = 13
        port = 1000
        "#,
    );
    let servers = [
        "192.0.2.53:53",
        "192.0.2.54:5353",
        "[2001:db8::53]:53",
        "[2001:db8::54]:53",
    ];
    let servers = servers.map(|server| server.parse().expect("address"));
    assert_eq!(
        dns,
        Ok(Dns {
            upstreams: Upstreams::Servers(servers.to_vec()),
            tls: None,
            tls_roots: "/etc/ssl/lab.pem".into(),
            refusal: Refusal::Refused,
            queries_per_second: 7,
            burst: 9,
            wildcard_names_per_minute: 11,
            wildcard_bytes_per_minute: 13,
            port: Some(1_000),
        })
    );
}

#[test]
fn tls_has_a_port_of_its_own() {
    let dns = parse("upstreams = [\"192.0.2.53\", \"[2001:db8::53]:443\"]\ntls = \"DNS.example\"")
        .expect("valid");
    let servers = ["192.0.2.53:853", "[2001:db8::53]:443"];
    let servers = servers.map(|server| server.parse().expect("address"));
    assert_eq!(dns.upstreams, Upstreams::Servers(servers.to_vec()));
    assert_eq!(dns.tls.as_deref(), Some("dns.example"));
}

#[test]
fn a_burst_follows_a_high_rate() {
    let dns = parse("queries_per_second = 50000").expect("valid");
    assert_eq!(dns.burst, 50_000);
}

#[test]
fn mistakes_name_the_place() {
    check_error(
        "upstreams = \"google\"",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.upstreams`: `"google"` is neither `"host"` nor a list
        hint: `"host"`, or a list such as `["192.0.2.53"]`"#]],
    );
    check_error(
        "upstreams = []",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.upstreams`: the list is empty
        hint: `"host"`, or a list such as `["192.0.2.53"]`"#]],
    );
    check_error(
        "\nupstreams = [\"192.0.2.53\", \"dns.example\"]",
        &expect![[r#"
        configuration `stockade.toml`: line 3: `dns.upstreams`: `"dns.example"` is no address of a server
        hint: `"host"`, or a list such as `["192.0.2.53"]`"#]],
    );
    check_error(
        "upstreams = [\"0.0.0.0\"]",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.upstreams`: `"0.0.0.0"` is no address of a server
        hint: `"host"`, or a list such as `["192.0.2.53"]`"#]],
    );
    check_error(
        "upstreams = [\"192.0.2.53:0\"]",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.upstreams`: `"192.0.2.53:0"` is no address of a server
        hint: `"host"`, or a list such as `["192.0.2.53"]`"#]],
    );
    check_error(
        "upstreams = [53]",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.upstreams`: `53` is no address of a server
        hint: `"host"`, or a list such as `["192.0.2.53"]`"#]],
    );
    check_error(
        "tls = \"dns.example\"",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.tls`: the servers of /etc/resolv.conf are asked without TLS
        hint: `upstreams = ["192.0.2.53"]` names servers that speak it"#]],
    );
    check_error(
        "upstreams = [\"192.0.2.53\"]\ntls = \"dns example\"",
        &expect![[r#"
        configuration `stockade.toml`: line 3: `dns.tls`: `dns example` is no name of a server
        hint: the name in its certificate, such as `dns.example`"#]],
    );
    check_error(
        "port = 5353",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.port`: 5353 is not within 1 and 1023
        hint: a port that only root can bind keeps others from answering in the resolver's place"#]],
    );
    check_error(
        "port = 0",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `dns.port`: 0 is not within 1 and 1023
        hint: a port that only root can bind keeps others from answering in the resolver's place"#]],
    );
    check_error(
        "queries_per_second = 0",
        &expect![
            "configuration `stockade.toml`: line 2: `dns.queries_per_second`: 0 is not within 1 and 100000"
        ],
    );
    check_error(
        "queries_per_second = 50\nburst = 10",
        &expect![[r#"
        configuration `stockade.toml`: line 3: `dns.burst`: 10 is less than `queries_per_second` (50)
        hint: a burst holds at least one second's queries"#]],
    );
    check_error(
        "wildcard_names_per_minute = -1",
        &expect![
            "configuration `stockade.toml`: line 2: `dns.wildcard_names_per_minute`: -1 is not within 1 and 1000000"
        ],
    );
    check_error(
        "refusal = \"drop\"",
        &expect![
            "configuration `stockade.toml`: line 2, column 11: unknown variant `drop`, expected `nxdomain` or `refused`"
        ],
    );
    check_error(
        "servers = []",
        &expect![
            "configuration `stockade.toml`: line 2, column 1: unknown field `servers`, expected one of `upstreams`, `tls`, `tls_roots`, `refusal`, `queries_per_second`, `burst`, `wildcard_names_per_minute`, `wildcard_bytes_per_minute`, `port`"
        ],
    );
}
