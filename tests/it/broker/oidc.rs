//! Tokens of a certified `OpenID` provider: found by discovery, bound to the caller's key, good for a
//! call from door to worker; its keys change in the middle, and it goes away.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use lab::{agent::METRICS, metrics, patience};
use serde_json::{Value, json};

use super::{
    Scene,
    caller::{Caller, signer},
    provider::Provider,
};

const RESOURCE: &str = "https://tools.example/stockade";
/// Age at which its keys are believed no more.
const STALE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(250);

fn scene() -> (Scene, Provider) {
    let mut started = None;
    let scene = Scene::invoice_configured(|lab| {
        let provider = Provider::start(lab.host(), RESOURCE);
        let text = format!(
            "[broker]\nresource = \"{RESOURCE}\"\n[[broker.issuer]]\nissuer = \"{}\"\n\
             loopback_http = true\nrefresh_min = \"1s\"\nrefresh_max = \"2s\"\n\
             stale_max = \"{}s\"\nfetch_pause = \"1s\"\n",
            provider.issuer,
            STALE.as_secs()
        );
        started = Some(provider);
        text
    });
    (scene, started.expect("a provider"))
}

/// Somebody with a token of the provider.
fn caller(scene: &Scene, provider: &Provider) -> Caller {
    let signer = signer();
    let token = provider.token(&signer, "invoice:read", RESOURCE);
    let socket = Path::new("/run").join(scene.agent.instance());
    Caller::new(
        socket.join("broker.sock"),
        signer,
        token,
        RESOURCE.to_owned(),
    )
}

/// How a call ends: `done` where its token was believed.
fn read(caller: &Caller) -> String {
    let answer = caller.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    // Who waits makes the same call many times. Calls of those who are believed alone are a loop.
    if answer.is_done() || answer.reason() == "loop_guard" {
        return "done".to_owned();
    }
    answer.reason().to_owned()
}

/// Waits until a call comes to this.
fn until(caller: &Caller, expected: &str) {
    let end = Instant::now() + patience::scaled(Duration::from_secs(20));
    loop {
        let came = read(caller);
        if came == expected {
            return;
        }
        assert!(Instant::now() < end, "{expected}: {came}");
        thread::sleep(POLL);
    }
}

fn issuer(scene: &Scene) -> Value {
    let status = scene.agent.json("status").expect("it answers");
    let issuers = status["issuers"].as_array().expect("a list").clone();
    let fetched = issuers.into_iter().find(|one| one["source"] == "fetched");
    fetched.expect("it is listed")
}

#[test]
fn tokens_of_a_certified_provider_are_taken_through_rotation_and_loss() {
    let (scene, mut provider) = scene();
    let first = caller(&scene, &provider);
    assert_eq!(read(&first), "done", "{}", scene.agent.log());
    // What the token says is in the record.
    let records = scene.records(&["--client", "orchestrator", "--outcome", "done"]);
    let principal = &records[0]["begun"]["principal"];
    assert_eq!(principal["issuer"], provider.issuer, "{records:?}");
    assert_eq!(records[0]["begun"]["token"]["key"], "key-1");
    let shown = issuer(&scene);
    assert_eq!((&shown["keys"], &shown["error"]), (&json!(1), &Value::Null));
    // Scope and key of the token hold as they do for tokens of our own.
    let refused = first.call("invoice", "create", json!({}));
    assert_eq!(refused.reason(), "unknown_or_forbidden");
    let thief = caller(&scene, &provider).with_token_of(&first);
    assert_eq!(read(&thief), "proof_key");

    // A new key signs; the old one is still there.
    assert_eq!(provider.order("rotate"), "key-2");
    let second = caller(&scene, &provider);
    until(&second, "done");
    assert_eq!(read(&first), "done", "both keys are believed");
    // The old one is gone.
    assert_eq!(provider.order("drop"), "key-2");
    until(&first, "token_key");
    assert_eq!(read(&second), "done", "{}", scene.agent.log());

    // The provider is gone: its keys are believed for a while.
    drop(provider);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(read(&second), "done", "{}", scene.agent.log());
    until(&second, "issuer_unavailable");
    let shown = issuer(&scene);
    assert_eq!(shown["keys"], 0, "{shown}");
    let error = shown["error"].as_str().expect("why");
    assert!(error.contains("no connection"), "{error}");
    let page = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("metrics");
    let samples = metrics::parse(&page);
    let count = |name, labels: &[&str]| metrics::sum(&samples, name, labels);
    let fetches = "stockade_issuer_fetches_total";
    assert!(count(fetches, &["outcome=\"success\""]) >= 2.0, "{page}");
    assert!(
        count(fetches, &["outcome=\"unreachable\""]) >= 1.0,
        "{page}"
    );
    let text = scene.agent.command(&["status"]).expect("it runs").stdout;
    let text = super::text(&text);
    assert!(
        text.contains("has no keys: every token of it is refused"),
        "{text}"
    );
    // Our own issuer does not mind.
    let own = scene.caller("alice", &["invoice:read"]);
    assert_eq!(read(&own), "done");
    scene.end();
}
