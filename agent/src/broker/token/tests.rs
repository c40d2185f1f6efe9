//! Every way in which a token can be wrong, each signed by a key that is trusted, so that nothing but
//! the one thing can be why it is refused.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value, json};

use super::{Claims, LIFETIME_MAX, TOKEN_BYTES_MAX, Verifier, cache};
use crate::broker::{
    issuer::{Embedded, Issuers, Order, Revoked, StaticIssuer},
    jose::{KeyPair, base64url},
    reason::Reason,
};

mod forged;
mod revocation;
mod shape;

const RESOURCE: &str = "https://host.example/stockade";
const FOREIGN: &str = "https://id.example";
const NOW: u64 = 1_800_000_000;

/// An embedded issuer, a foreign one with two keys, and the verifier.
struct World {
    folder: tempfile::TempDir,
    embedded: Arc<Embedded>,
    issuers: Arc<Issuers>,
    revoked: Arc<Revoked>,
    verifier: Verifier,
    p256: KeyPair,
    ed25519: KeyPair,
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name| folder.path().join(name);
        let (p256, ed25519) = (
            KeyPair::p256().expect("a key"),
            KeyPair::ed25519().expect("a key"),
        );
        fs::write(path("id.jwks"), jwks(&[("one", &p256), ("two", &ed25519)])).expect("written");
        let issuer = format!("{RESOURCE}/issuer");
        let embedded = Embedded::open(&path("issuer.json"), issuer, RESOURCE.to_owned(), at(NOW));
        let embedded = Arc::new(embedded.expect("an issuer"));
        let foreign = StaticIssuer {
            issuer: FOREIGN.to_owned(),
            jwks: path("id.jwks"),
        };
        let issuers = Issuers::new(Some(Arc::clone(&embedded)), vec![foreign]);
        let issuers = Arc::new(issuers.expect("issuers"));
        let revoked = Arc::new(Revoked::open(&path("revoked.json")).expect("a list"));
        let verifier = Verifier::new(
            RESOURCE.to_owned(),
            Duration::from_mins(5),
            Arc::clone(&issuers),
            Arc::clone(&revoked),
        );
        Self {
            folder,
            embedded,
            issuers,
            revoked,
            verifier,
            p256,
            ed25519,
        }
    }

    fn verify(&self, token: &str, now: u64) -> Result<Arc<Claims>, Reason> {
        let verified = self.verifier.verify(token, at(now));
        verified.map_err(|refused| refused.reason)
    }

    /// A token of the foreign issuer's first key, with some claims changed.
    fn foreign(&self, changes: &Value) -> String {
        let claims = merge(claims(), changes);
        self.p256.sign(header("one"), &claims).expect("signed")
    }

    fn own(&self, order: &Order, now: u64) -> String {
        let issued = self.embedded.issue(order, at(now)).expect("a token");
        issued.token.expose().clone()
    }
}

fn jwks(keys: &[(&str, &KeyPair)]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(id, pair)| merge(pair.public().jwk().clone(), &json!({ "kid": id })))
        .collect();
    json!({ "keys": keys }).to_string()
}

fn header(key_id: &str) -> Map<String, Value> {
    let header = json!({"typ": "at+jwt", "kid": key_id});
    header.as_object().expect("an object").clone()
}

fn claims() -> Value {
    json!({
        "iss": FOREIGN, "aud": RESOURCE, "sub": "alice", "client_id": "orchestrator",
        "iat": NOW, "exp": NOW + 300, "jti": "t1", "scope": "invoice:read invoice:create",
        "cnf": {"jkt": base64url(&[7; 32])},
    })
}

/// Members replaced; those that become null go.
fn merge(mut into: Value, changes: &Value) -> Value {
    let members = into.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    into
}

fn order() -> Order {
    Order {
        subject: "alice".to_owned(),
        client: "orchestrator".to_owned(),
        scopes: vec!["invoice:read".to_owned()],
        tool: Some("invoice".to_owned()),
        lifetime: Duration::from_mins(5),
        jkt: [7; 32],
        purpose: Some("pay what is due".to_owned()),
        session_hash: Some("5e55".to_owned()),
        arguments_digest: Some([9; 32]),
    }
}

#[test]
fn good_tokens_say_what_was_ordered() {
    let world = World::new();
    let claims = world.verify(&world.own(&order(), NOW), NOW).expect("good");
    assert_eq!(claims.subject, "alice");
    assert_eq!(claims.client, "orchestrator");
    assert_eq!(claims.tool.as_deref(), Some("invoice"));
    assert_eq!(claims.purpose.as_deref(), Some("pay what is due"));
    assert_eq!(claims.session_hash.as_deref(), Some("5e55"));
    assert_eq!(claims.arguments_digest, Some([9; 32]));
    assert_eq!(claims.jkt, [7; 32]);
    assert_eq!(claims.expires, at(NOW + 300));
    assert_eq!(claims.key_id, world.embedded.key_id());
    assert!(claims.covers("invoice:read") && !claims.covers("invoice:create"));
    assert!(!claims.covers("invoice:rea") && !claims.covers(""));

    let changes = json!({
        "aud": ["https://other.example", RESOURCE], "unknown": {"a": [1]}, "nbf": NOW,
        "act": {"sub": "planner", "act": {"sub": "agent", "iss": "x", "act": {"sub": "shell"}}},
    });
    let claims = world.verify(&world.foreign(&changes), NOW).expect("good");
    assert_eq!(claims.actors, ["planner", "agent", "shell"]);
    assert_eq!(claims.scopes, ["invoice:read", "invoice:create"]);
}

#[test]
fn a_life_has_bounds() {
    let world = World::new();
    let verify = |changes: Value, now| world.verify(&world.foreign(&changes), now).err();
    assert_eq!(verify(json!({}), NOW + 299), None);
    assert_eq!(verify(json!({}), NOW + 300), Some(Reason::TokenExpired));
    assert_eq!(
        verify(json!({"exp": NOW + 301}), NOW),
        Some(Reason::TokenLifetime)
    );
    assert_eq!(verify(json!({"exp": NOW}), NOW), Some(Reason::TokenClaims));
    assert_eq!(
        verify(json!({"exp": NOW - 1}), NOW),
        Some(Reason::TokenClaims)
    );
    // Clocks of other hosts may be half a minute ahead.
    assert_eq!(verify(json!({}), NOW - 30), None);
    assert_eq!(verify(json!({}), NOW - 31), Some(Reason::TokenNotYet));
    assert_eq!(verify(json!({"nbf": NOW + 30}), NOW), None);
    assert_eq!(
        verify(json!({"nbf": NOW + 31}), NOW),
        Some(Reason::TokenNotYet)
    );
    // Ours is not.
    let own = world.own(&order(), NOW);
    assert_eq!(world.verify(&own, NOW - 1), Err(Reason::TokenNotYet));
    assert!(world.verify(&own, NOW).is_ok());
}

#[test]
fn a_known_token_is_judged_by_the_clock_each_time() {
    let world = World::new();
    let token = world.foreign(&json!({}));
    assert!(world.verify(&token, NOW).is_ok());
    assert_eq!(world.verify(&token, NOW + 300), Err(Reason::TokenExpired));
    // A clock that was set back far makes it a token of the future, not a valid one.
    assert_eq!(world.verify(&token, NOW - 3_600), Err(Reason::TokenNotYet));
    assert!(world.verify(&token, NOW + 1).is_ok());
}

#[test]
fn what_is_known_is_bounded() {
    let world = World::new();
    for number in 0..5_000 {
        let token = world.foreign(&json!({ "jti": number.to_string() }));
        assert!(world.verify(&token, NOW).is_ok());
    }
    let known = world.verifier.cache().len();
    assert!(known <= 2 * cache::HALF, "{known}");
    let bad = world.foreign(&json!({"sub": ""}));
    let before = world.verifier.cache().len();
    assert!(world.verify(&bad, NOW).is_err());
    assert_eq!(world.verifier.cache().len(), before);
}
