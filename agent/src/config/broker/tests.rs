//! `[broker]` in, settings or the place of the mistake out.

use std::{path::Path, time::Duration};

use expect_test::{Expect, expect};

use super::Broker;
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
    assert_eq!(issuer.jwks, Path::new("/etc/stockade/id.jwks"));
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
