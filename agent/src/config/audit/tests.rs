//! `[audit]` in, settings or the place of the mistake out.

use std::{path::Path, time::Duration};

use expect_test::{Expect, expect};

use super::{Audit, Keeper};
use crate::config::Config;

fn parse(text: &str) -> Result<Audit, String> {
    let config = Config::parse(Path::new("stockade.toml"), text);
    config
        .map(|config| config.audit)
        .map_err(|error| error.to_string())
}

fn check_error(text: &str, expected: &Expect) {
    expected.assert_eq(&parse(text).expect_err("must be refused"));
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(parse(""), Ok(Audit::default()));
    assert_eq!(parse("[audit]"), Ok(Audit::default()));
}

#[test]
fn every_kind_of_place_is_read() {
    let text = r#"
        [audit]
        checkpoint_every = "10s"
        [[audit.checkpoint]]
        to = "journald"
        [[audit.checkpoint]]
        to = "/mnt/kept/stockade.checkpoint"
        [[audit.checkpoint]]
        to = "https://witness.example/stockade"
        [[audit.checkpoint]]
        to = "http://127.0.0.1:8080/"
        ca = "/etc/own.pem"
        loopback_http = true
    "#;
    let audit = parse(text).expect("valid");
    assert_eq!(audit.every, Duration::from_secs(10));
    let [log, file, far, near] = audit.keepers.as_slice() else {
        panic!("{:?}", audit.keepers);
    };
    assert_eq!(*log, Keeper::Journald);
    let path = "/mnt/kept/stockade.checkpoint".into();
    assert_eq!(*file, Keeper::File(path));
    for (keeper, url, authorities) in [
        (
            far,
            "https://witness.example/stockade",
            "/etc/ssl/certs/ca-certificates.crt",
        ),
        (near, "http://127.0.0.1:8080/", "/etc/own.pem"),
    ] {
        let Keeper::Post { endpoint, ca } = keeper else {
            panic!("{keeper:?}");
        };
        assert_eq!(endpoint.to_string(), url);
        assert_eq!(ca, Path::new(authorities));
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let one = |line: &str| format!("[[audit.checkpoint]]\n{line}");
    check_error(
        &one("to = \"kept/here\""),
        &expect![[r"
            configuration `stockade.toml`: line 2: `audit.checkpoint.to`: `kept/here` is neither `journald` nor the absolute path of a file nor an `https` URL
            hint: `loopback_http = true` takes `http` of 127.0.0.1 and [::1]"]],
    );
    parse(&one(
        "to = \"http://witness.example/\"\nloopback_http = true",
    ))
    .expect_err("in the clear");
    parse(&one("to = \"/mnt/kept/\"")).expect_err("a folder");
    check_error(
        &one("to = \"journald\"\nca = \"/etc/own.pem\""),
        &expect![
            "configuration `stockade.toml`: line 3: `audit.checkpoint.ca`: is for a URL, and `to` is none"
        ],
    );
    check_error(
        &one("to = \"/mnt/kept\"\nloopback_http = false"),
        &expect![
            "configuration `stockade.toml`: line 3: `audit.checkpoint.loopback_http`: is for a URL, and `to` is none"
        ],
    );
    let twice = one("to = \"journald\"\n").repeat(2);
    check_error(
        &twice,
        &expect![
            "configuration `stockade.toml`: line 4: `audit.checkpoint.to`: `journald` is named twice"
        ],
    );
    let many: String = (0..9).map(|n| one(&format!("to = \"/k/{n}\"\n"))).collect();
    check_error(
        &many,
        &expect![
            "configuration `stockade.toml`: line 18: `audit.checkpoint.to`: more than 8 places"
        ],
    );
    check_error(
        "[audit]\ncheckpoint_every = \"2h\"",
        &expect![
            "configuration `stockade.toml`: line 2: `audit.checkpoint_every`: `2h` is more than 1h"
        ],
    );
    parse("[audit]\ncheckpoint_every = \"0s\"").expect_err("no time");
}
