//! Keys that are fetched, from a server that does what it is told: an honest one, and every kind of
//! hostile one. Tokens are verified through [`Verifier`], as a call does it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Condition, Fetched};
use crate::{
    broker::{
        issuer::{Issuers, Revoked},
        jose::{KeyPair, base64url},
        reason::{Reason, Refused},
        token::{Claims, Verifier},
    },
    config::{Endpoint, Fetching, KeyPlace, LoopbackHttp},
    shutdown::{self, Stop, Stopping},
};

mod flood;
mod hostile;
mod rotation;
mod server;
mod tls;

use server::{Answer, Server};

const RESOURCE: &str = "https://host.example/stockade";
/// As the configuration's, but quick where a call brings about a fetch.
const QUICK: Fetching = Fetching {
    place: KeyPlace::Set(Endpoint {
        origin: crate::config::Origin {
            tls: true,
            host: String::new(),
            port: 0,
        },
        target: String::new(),
    }),
    ca: std::path::PathBuf::new(),
    http: LoopbackHttp::Taken,
    refresh_min: Duration::from_millis(60),
    refresh_max: Duration::from_hours(1),
    stale_max: Duration::from_hours(1),
    pause: Duration::from_millis(40),
};

/// An issuer, its server, and who verifies its tokens.
struct World {
    server: Server,
    issuer: String,
    pair: KeyPair,
    issuers: Arc<Issuers>,
    verifier: Arc<Verifier>,
    ends: (Stop, Stopping),
    _folder: tempfile::TempDir,
}

impl World {
    /// With discovery below the server's origin and this path.
    async fn discovering(path: &str, settings: Fetching) -> Self {
        let server = Server::start().await;
        let issuer = format!("{}{path}", server.origin());
        let endpoint = Endpoint::parse(&issuer, LoopbackHttp::Taken).expect("a URL");
        let place = KeyPlace::Discovery(endpoint);
        Self::new(server, issuer, Fetching { place, ..settings })
    }

    /// An honest one whose discovery and key set are there.
    async fn honest() -> Self {
        let world = Self::discovering("", QUICK).await;
        world.publish(&[("one", &world.pair)]);
        world.say_where();
        world.start()
    }

    /// With an authority in a file, so that there is something to trust.
    fn new(server: Server, issuer: String, settings: Fetching) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = if settings.ca.as_os_str().is_empty() {
            let ca = folder.path().join("ca.pem");
            std::fs::write(&ca, tls::Authority::new().pem()).expect("written");
            ca
        } else {
            settings.ca.clone()
        };
        let fetched = Fetched::new(issuer.clone(), Fetching { ca, ..settings });
        let fetched = vec![fetched.expect("an issuer")];
        let issuers = Issuers::with_fetched(None, Vec::new(), fetched).expect("issuers");
        let issuers = Arc::new(issuers);
        let revoked = Revoked::open(&folder.path().join("revoked.json")).expect("a list");
        let verifier = Verifier::new(
            RESOURCE.to_owned(),
            Duration::from_mins(5),
            Arc::clone(&issuers),
            Arc::new(revoked),
        );
        Self {
            server,
            issuer,
            pair: KeyPair::p256().expect("a key"),
            issuers,
            verifier: Arc::new(verifier),
            ends: shutdown::pair(),
            _folder: folder,
        }
    }

    fn start(self) -> Self {
        self.issuers.start(&self.ends.1);
        self
    }

    /// What the issuer says of itself.
    fn say_where(&self) {
        let document = json!({
            "issuer": self.issuer, "jwks_uri": format!("{}/keys", self.server.origin()),
        });
        let place = "/.well-known/openid-configuration";
        self.server.put(place, Answer::json(&document));
    }

    fn publish(&self, keys: &[(&str, &KeyPair)]) {
        self.server.put("/keys", Answer::json(&set(keys)));
    }

    fn token(&self, key_id: &str, pair: &KeyPair) -> String {
        token(&self.issuer, key_id, pair)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        let now = SystemTime::now();
        self.verifier.verify_patiently(token, now).await
    }

    async fn reason(&self, token: &str) -> Option<Reason> {
        self.verify(token).await.err().map(|refused| refused.reason)
    }

    fn condition(&self) -> Condition {
        self.one().condition()
    }

    fn one(&self) -> &Fetched {
        self.issuers.fetched.values().next().expect("one")
    }

    fn fetches(&self) -> u64 {
        self.one().outcomes().map(|(_, count)| count).sum()
    }

    /// Waits until something is so; bounded.
    async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !so(self) {
            assert!(Instant::now() < end, "{what}: {:?}", self.condition());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn set(keys: &[(&str, &KeyPair)]) -> Value {
    let keys = keys.iter().map(|(id, pair)| {
        let mut jwk = pair.public().jwk().clone();
        jwk["kid"] = (*id).into();
        jwk["use"] = "sig".into();
        jwk
    });
    json!({ "keys": keys.collect::<Vec<_>>() })
}

fn token(issuer: &str, key_id: &str, pair: &KeyPair) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let header = json!({"typ": "at+jwt", "kid": key_id});
    let claims = json!({
        "iss": issuer, "aud": RESOURCE, "sub": "alice", "client_id": "orchestrator",
        "iat": now, "exp": now + 300, "jti": "t1", "scope": "invoice:read",
        "cnf": {"jkt": base64url(&[7; 32])},
    });
    let header = header.as_object().expect("an object").clone();
    pair.sign(header, &claims).expect("signed")
}

#[tokio::test]
async fn discovery_leads_to_keys_and_they_are_kept() {
    let world = World::honest().await;
    let token = world.token("one", &world.pair);
    let claims = world.verify(&token).await.expect("good");
    assert_eq!(claims.subject, "alice");
    for _ in 0..100 {
        assert!(world.verify(&token).await.is_ok());
    }
    assert_eq!(world.fetches(), 1);
    assert_eq!(world.server.count("/keys"), 1);
    let condition = world.condition();
    assert_eq!((condition.keys, condition.error), (1, None));
    // A signature of another key, of a key id that is there.
    let other = KeyPair::p256().expect("a key");
    let forged = world.token("one", &other);
    assert_eq!(world.reason(&forged).await, Some(Reason::TokenSignature));
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn an_authorization_server_is_found_at_its_own_place() {
    let world = World::discovering("/tenant/", QUICK).await;
    let document = json!({
        "issuer": world.issuer, "jwks_uri": format!("{}/keys?p=1", world.server.origin()),
    });
    let place = "/.well-known/oauth-authorization-server/tenant";
    world.server.put(place, Answer::json(&document));
    let keys = set(&[("one", &world.pair)]);
    world.server.put("/keys?p=1", Answer::json(&keys));
    let world = world.start();
    let token = world.token("one", &world.pair);
    assert!(
        world.verify(&token).await.is_ok(),
        "{:?}",
        world.condition()
    );
    let first = "/tenant/.well-known/openid-configuration";
    assert_eq!(world.server.count(first), 1);
}

#[tokio::test]
async fn a_place_of_keys_that_is_configured_needs_no_discovery() {
    let server = Server::start().await;
    let at = format!("{}/keys", server.origin());
    let place = KeyPlace::Set(Endpoint::parse(&at, LoopbackHttp::Taken).expect("a URL"));
    let settings = Fetching { place, ..QUICK };
    let world = World::new(server, "urn:example:issuer".to_owned(), settings);
    world.publish(&[("one", &world.pair)]);
    let world = world.start();
    assert!(world.verify(&world.token("one", &world.pair)).await.is_ok());
    assert_eq!(world.server.total(), 1);
}

#[tokio::test]
async fn an_issuer_that_is_not_trusted_fetches_nothing() {
    let world = World::honest().await;
    world
        .until("keys", |world| world.condition().keys == 1)
        .await;
    let before = world.server.total();
    for issuer in ["https://evil.example", "http://127.0.0.1:1/", ""] {
        let refused = world.reason(&token(issuer, "x", &world.pair)).await;
        let expected = [Reason::TokenIssuer, Reason::TokenClaims];
        assert!(
            refused.is_some_and(|reason| expected.contains(&reason)),
            "{refused:?}"
        );
    }
    tokio::time::sleep(QUICK.pause * 2).await;
    assert_eq!(world.server.total(), before);
}

#[tokio::test]
async fn keys_are_fetched_again_before_they_are_stale() {
    let world = World::discovering("", QUICK).await;
    world.say_where();
    let keys = Answer::json(&set(&[("one", &world.pair)]));
    world
        .server
        .put("/keys", keys.with("Cache-Control: max-age=0"));
    let world = world.start();
    world
        .until("three fetches", |world| world.fetches() >= 3)
        .await;
    assert!(world.server.count("/keys") >= 3);
}
