//! Servers that give anything but keys.

use std::time::{Duration, Instant};

use expect_test::expect_file;
use serde_json::{Value, json};

use super::{Answer, QUICK, World, set};
use crate::{
    broker::{
        issuer::fetched::WAIT_MAX,
        jose::{KeyPair, base64url},
        reason::Reason,
    },
    config::Fetching,
};

/// Says why the keys were not had, and that a token is refused for it.
async fn refused(name: &str, prepare: impl FnOnce(&World)) -> String {
    let world = World::discovering("", QUICK).await;
    world.say_where();
    world.publish(&[("one", &world.pair)]);
    prepare(&world);
    let world = world.start();
    let token = world.token("one", &world.pair);
    let refused = world.verify(&token).await.expect_err(name);
    assert_eq!(refused.reason, Reason::IssuerUnavailable, "{name}");
    assert!(refused.retry_after.is_some(), "{name}: when to come again");
    let condition = world.condition();
    assert_eq!(condition.keys, 0, "{name}");
    let error = condition.error.unwrap_or_default();
    error.replace(&world.server.origin(), "ORIGIN")
}

fn keys(world: &World, change: &Value) {
    let mut keys = set(&[("one", &world.pair)]);
    let members = keys["keys"][0].as_object_mut().expect("a key");
    members.extend(change.as_object().expect("an object").clone());
    world.server.put("/keys", Answer::json(&keys));
}

fn document(world: &World, change: &Value) {
    let mut document = json!({
        "issuer": world.issuer, "jwks_uri": format!("{}/keys", world.server.origin()),
    });
    let members = document.as_object_mut().expect("an object");
    members.extend(change.as_object().expect("an object").clone());
    let place = "/.well-known/openid-configuration";
    world.server.put(place, Answer::json(&document));
}

#[tokio::test]
async fn key_sets_that_are_none() {
    let mut said = Vec::new();
    let symmetric = json!({"kty": "oct", "k": base64url(b"0123456789abcdef")});
    for (name, change) in [
        ("symmetric", symmetric),
        ("private", json!({"d": "AAAA"})),
        ("other curve", json!({"crv": "P-384"})),
        ("no algorithm of its own", json!({"alg": "HS256"})),
        ("key_ops", json!({"key_ops": ["encrypt"]})),
        ("kid", json!({"kid": ["one"]})),
    ] {
        let error = refused(name, |world| keys(world, &change)).await;
        said.push(format!("{name}: {error}"));
    }
    let twice = |world: &World| {
        world.publish(&[
            ("one", &world.pair),
            ("one", &KeyPair::p256().expect("a key")),
        ]);
    };
    said.push(format!("twice: {}", refused("twice", twice).await));
    for (name, body) in [
        ("none", r#"{"keys":[]}"#),
        ("array", "[]"),
        ("html", "<html>"),
        ("member twice", r#"{"keys":[],"keys":[]}"#),
    ] {
        let json = ["Content-Type: application/json"];
        let error = refused(name, |world| {
            world
                .server
                .put("/keys", Answer::page("200 OK", &json, body));
        });
        said.push(format!("{name}: {}", error.await));
    }
    expect_file!["said/keys.txt"].assert_eq(&(said.join("\n") + "\n"));
}

#[tokio::test]
async fn answers_that_are_not_read() {
    let mut said = Vec::new();
    let body = |world: &World| set(&[("one", &world.pair)]).to_string();
    for (name, status, header) in [
        ("error", "500 Internal Server Error", "X: y"),
        (
            "elsewhere",
            "302 Found",
            "Location: https://evil.example/keys",
        ),
        ("moved", "308 Permanent Redirect", "Location: /other"),
        (
            "partial",
            "206 Partial Content",
            "Content-Type: application/json",
        ),
        ("text", "200 OK", "Content-Type: text/html"),
        ("no type", "200 OK", "X: y"),
        (
            "encoded",
            "200 OK",
            "Content-Type: application/json\r\nContent-Encoding: gzip",
        ),
    ] {
        let error = refused(name, |world| {
            let page = Answer::page(status, &[header], &body(world));
            world.server.put("/keys", page);
        });
        said.push(format!("{name}: {}", error.await));
    }
    let json = ["Content-Type: application/json"];
    let large = Answer::page("200 OK", &json, &" ".repeat(300 * 1_024));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_owned();
    let many = "A: b\r\n".repeat(100);
    let long = "a".repeat(64 * 1_024);
    for (name, answer) in [
        ("large", large),
        ("endless", Answer::Endless(head.into())),
        (
            "no HTTP",
            Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ),
        (
            "cut",
            Answer::Bytes(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
                    .to_vec(),
            ),
        ),
        (
            "many headers",
            Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{many}\r\n").into()),
        ),
        (
            "long header",
            Answer::Bytes(format!("HTTP/1.1 200 OK\r\nA: {long}\r\n\r\n").into()),
        ),
    ] {
        let error = refused(name, |world| world.server.put("/keys", answer)).await;
        said.push(format!("{name}: {error}"));
    }
    expect_file!["said/answers.txt"].assert_eq(&(said.join("\n") + "\n"));
}

#[tokio::test]
async fn documents_that_lead_astray() {
    let mut said = Vec::new();
    for (name, change) in [
        ("another issuer", json!({"issuer": "https://evil.example"})),
        ("nearly", json!({"issuer": "http://127.0.0.1/"})),
        ("no issuer", json!({"issuer": null})),
        (
            "another origin",
            json!({"jwks_uri": "https://evil.example/keys"}),
        ),
        (
            "another port",
            json!({"jwks_uri": "http://127.0.0.1:1/keys"}),
        ),
        (
            "in the clear",
            json!({"jwks_uri": "http://evil.example/keys"}),
        ),
        ("a file", json!({"jwks_uri": "file:///etc/passwd"})),
        ("no place", json!({"jwks_uri": null})),
    ] {
        let error = refused(name, |world| document(world, &change)).await;
        said.push(format!("{name}: {error}"));
    }
    let large = refused("large", |world| {
        document(world, &json!({"pad": " ".repeat(65 * 1_024)}));
    });
    said.push(format!("large: {}", large.await));
    let gone = refused("gone", |world| {
        let nothing = Answer::page("404 Not Found", &[], "");
        world
            .server
            .put("/.well-known/openid-configuration", nothing);
    });
    said.push(format!("gone: {}", gone.await));
    expect_file!["said/documents.txt"].assert_eq(&(said.join("\n") + "\n"));
}

#[tokio::test]
async fn slow_servers_hold_no_call_for_long() {
    let keys = |world: &World| Answer::json(&set(&[("one", &world.pair)]));
    for slow in ["drip", "silence"] {
        let world = World::discovering("", QUICK).await;
        world.say_where();
        let answer = match slow {
            "drip" => keys(&world).dripping(),
            _ => Answer::Silence,
        };
        world.server.put("/keys", answer);
        let world = world.start();
        let began = Instant::now();
        let token = world.token("one", &world.pair);
        let refused = world.verify(&token).await.expect_err(slow);
        assert_eq!(refused.reason, Reason::IssuerUnavailable);
        assert_eq!(refused.retry_after, Some(WAIT_MAX));
        let waited = began.elapsed();
        assert!(waited < WAIT_MAX * 2, "{waited:?}");
        world
            .until("the end of the fetch", |world| {
                world.condition().error.is_some()
            })
            .await;
        let error = world.condition().error;
        assert_eq!(error.as_deref(), Some("not within its time"), "{slow}");
    }
}

#[tokio::test]
async fn what_is_gone_is_believed_up_to_the_hard_age() {
    const HARD: Duration = Duration::from_secs(6);
    let settings = Fetching {
        stale_max: HARD,
        refresh_max: Duration::from_millis(400),
        ..QUICK
    };
    let world = World::discovering("", settings).await;
    world.say_where();
    world.publish(&[("one", &world.pair)]);
    let mut world = world.start();
    let token = world.token("one", &world.pair);
    assert!(world.verify(&token).await.is_ok());
    world.server.vanish().await;
    world
        .until("a failure", |world| world.condition().error.is_some())
        .await;
    // The last keys stay, for tokens that were seen and for others.
    assert!(world.verify(&token).await.is_ok());
    let another = world.token("one", &world.pair);
    assert!(world.verify(&another).await.is_ok());
    assert_eq!(world.condition().keys, 1);
    tokio::time::sleep(HARD).await;
    // Then they are nobody's, also where the signature was checked before.
    for token in [&token, &another] {
        let refused = world.verify(token).await.expect_err("too old");
        assert_eq!(refused.reason, Reason::IssuerUnavailable);
    }
    let condition = world.condition();
    assert_eq!(condition.keys, 0);
    assert!(condition.age.is_some_and(|age| age >= HARD));
    assert!(
        condition
            .error
            .unwrap_or_default()
            .contains("no connection")
    );
}
