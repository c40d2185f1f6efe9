//! `[broker]` in, settings or the place of the mistake out.

use std::{path::Path, time::Duration};

use expect_test::{Expect, expect};

use super::{Broker, Issuer, KeyPlace, KeySource};
use crate::config::Config;

fn parse(text: &str) -> Result<Broker, String> {
    let config = Config::parse(Path::new("stockade.toml"), text);
    config
        .map(|config| config.broker)
        .map_err(|error| error.to_string())
}

fn check_error(text: &str, expected: &Expect) {
    expected.assert_eq(&parse(text).expect_err("must be refused"));
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(parse(""), Ok(Broker::default()));
    assert_eq!(parse("[broker.token]"), Ok(Broker::default()));
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [broker]
        resource = "https://host.example/stockade"
        [broker.token]
        lifetime_max = "90s"
        [[broker.issuer]]
        issuer = "https://id.example"
        jwks = "/etc/stockade/id.jwks"
    "#;
    let broker = parse(text).expect("valid");
    assert_eq!(
        broker.resource.as_deref(),
        Some("https://host.example/stockade")
    );
    assert_eq!(broker.token_lifetime_max, Duration::from_secs(90));
    let [issuer] = broker.issuers.as_slice() else {
        panic!("{:?}", broker.issuers);
    };
    assert_eq!(issuer.issuer, "https://id.example");
    let file = KeySource::File("/etc/stockade/id.jwks".into());
    assert_eq!(issuer.keys, file);
}

fn one(issuer: &str) -> Result<Issuer, String> {
    let text = format!("[broker]\nresource = \"https://a\"\n[[broker.issuer]]\n{issuer}");
    parse(&text).map(|mut broker| broker.issuers.remove(0))
}

#[test]
fn without_a_file_keys_are_fetched() {
    let issuer = one("issuer = \"https://id.example/tenant\"").expect("valid");
    let KeySource::Fetched(fetching) = issuer.keys else {
        panic!("{issuer:?}");
    };
    let KeyPlace::Discovery(endpoint) = &fetching.place else {
        panic!("{fetching:?}");
    };
    assert_eq!(endpoint.to_string(), "https://id.example/tenant");
    assert_eq!(fetching.ca, Path::new("/etc/ssl/certs/ca-certificates.crt"));
    assert_eq!(fetching.pause, Duration::from_secs(10));
    let issuer = one(r#"
        issuer = "urn://id"
        jwks_uri = "http://127.0.0.1:8080/keys"
        loopback_http = true
        ca = "/etc/id.pem"
        refresh_min = "1s"
        refresh_max = "2s"
        stale_max = "3s"
        fetch_pause = "4s"
    "#);
    let KeySource::Fetched(fetching) = issuer.expect("valid").keys else {
        panic!("fetched");
    };
    assert!(matches!(fetching.place, KeyPlace::Set(_)), "{fetching:?}");
    let seconds = [
        fetching.refresh_min,
        fetching.refresh_max,
        fetching.stale_max,
        fetching.pause,
    ];
    assert_eq!(seconds.map(|span| span.as_secs()), [1, 2, 3, 4]);
}

#[test]
fn fetching_in_the_clear_is_for_loopback_and_said() {
    for (issuer, good) in [
        ("issuer = \"http://127.0.0.1:1\"", false),
        (
            "issuer = \"http://127.0.0.1:1\"\nloopback_http = false",
            false,
        ),
        (
            "issuer = \"http://127.0.0.1:1\"\nloopback_http = true",
            true,
        ),
        (
            "issuer = \"http://id.example\"\nloopback_http = true",
            false,
        ),
        ("issuer = \"http://localhost\"\nloopback_http = true", false),
        ("issuer = \"urn://id\"", false),
        (
            "issuer = \"https://id\"\njwks_uri = \"http://id/keys\"",
            false,
        ),
    ] {
        assert_eq!(one(issuer).is_ok(), good, "{issuer}");
    }
    expect![[r#"
        configuration `stockade.toml`: line 4: `broker.issuer.issuer`: `http://id.example` is no `https` URL
        hint: `https://login.example`; keys in a file: `jwks = "/…"`; `loopback_http = true` takes `http` of 127.0.0.1 and [::1]"#]]
    .assert_eq(&one("issuer = \"http://id.example\"").expect_err("must be refused"));
}

#[test]
fn what_would_not_count_is_an_error() {
    for extra in [
        "jwks_uri = \"https://id/keys\"",
        "ca = \"/ca.pem\"",
        "loopback_http = false",
        "refresh_min = \"1m\"",
        "refresh_max = \"1m\"",
        "stale_max = \"1m\"",
        "fetch_pause = \"1m\"",
    ] {
        let file = format!("issuer = \"https://id\"\njwks = \"/id.jwks\"\n{extra}");
        let error = one(&file).expect_err("must be refused");
        assert!(error.contains("is for keys that are fetched"), "{error}");
    }
    for bad in [
        "refresh_min = \"16m\"",
        "refresh_max = \"2h\"",
        "stale_max = \"1m\"",
        "fetch_pause = \"0s\"",
        "ca = \"ca.pem\"",
        "jwks_url = \"https://id/keys\"",
    ] {
        assert!(
            one(&format!("issuer = \"https://id\"\n{bad}")).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn bounds_hold_at_their_edge() {
    for good in ["1s", "900s", "15m", "1m"] {
        let text = format!("[broker.token]\nlifetime_max = \"{good}\"");
        assert!(parse(&text).is_ok(), "{good}");
    }
    for bad in [
        "0s", "901s", "16m", "1h", "5", "m", "", "-1s", "+5s", "5 m", "5ms", "é",
    ] {
        let text = format!("[broker.token]\nlifetime_max = \"{bad}\"");
        assert!(parse(&text).is_err(), "{bad}");
    }
}

#[test]
fn errors_name_the_place() {
    check_error(
        "[broker.token]\nlifetime_max = \"1h\"\n",
        &expect![[r#"
        configuration `stockade.toml`: line 2: `broker.token.lifetime_max`: `1h` is no time within 1s and 15m
        hint: whole seconds or minutes, like "5m""#]],
    );
    check_error(
        "[broker]\nresource = \"host\"\n",
        &expect![[r"
        configuration `stockade.toml`: line 2: `broker.resource`: `host` is no absolute URI without query and fragment
        hint: `https://host.example/stockade`"]],
    );
    check_error(
        "[[broker.issuer]]\nissuer = \"https://id.example\"\njwks = \"/id.jwks\"\n",
        &expect![[r#"
            configuration `stockade.toml`: line 2: `broker.issuer`: `broker.resource` lacks: tokens of this issuer could be meant for another host
            hint: `resource = "https://…"` under `[broker]`, one for each host"#]],
    );
    check_error(
        "[broker]\nresource = \"https://a\"\n[[broker.issuer]]\nissuer = \"https://b\"\njwks = \"/a\"\n[[broker.issuer]]\nissuer = \"https://b\"\njwks = \"/b\"\n",
        &expect![
            "configuration `stockade.toml`: line 7: `broker.issuer`: `https://b` is named twice"
        ],
    );
    check_error(
        "[broker]\nresource = \"https://a\"\n[[broker.issuer]]\nissuer = \"https://b\"\njwks = \"b\"\n",
        &expect![
            "configuration `stockade.toml`: line 5: `broker.issuer.jwks`: not an absolute path"
        ],
    );
}
