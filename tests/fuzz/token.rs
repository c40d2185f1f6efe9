//! Access tokens, proofs and key sets: bytes of whoever reaches the broker's socket.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::{
    broker::{
        issuer::{Embedded, Issuers, Keys, Order, Revoked, fetched::key_place},
        jose::{Algorithm, Compact, KeyPair, base64url},
        proof::{Proofs, Signer},
        token::Verifier,
    },
    config::{Endpoint, LoopbackHttp},
    json,
};
use serde_json::{Map, Value};

use crate::mutator::fuzz;

const RESOURCE: &str = "https://host.example/stockade";
const BODY: [u8; 32] = [3; 32];

struct World {
    _folder: tempfile::TempDir,
    verifier: Verifier,
    proofs: Proofs,
    signer: Signer,
    token: String,
    now: SystemTime,
}

fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let now = SystemTime::now();
    let file = folder.path().join("issuer.json");
    let issuer = Embedded::open(&file, "https://issuer".to_owned(), RESOURCE.to_owned(), now);
    let issuer = Arc::new(issuer.expect("an issuer"));
    let signer = Signer::generate(Algorithm::EdDsa).expect("a key");
    let order = Order {
        subject: "alice".to_owned(),
        client: "orchestrator".to_owned(),
        scopes: vec!["invoice:read".to_owned()],
        tool: Some("invoice".to_owned()),
        lifetime: Duration::from_mins(5),
        jkt: signer.thumbprint(),
        purpose: None,
        session_hash: None,
        arguments_digest: None,
    };
    let token = issuer.issue(&order, now).expect("a token");
    let issuers = Issuers::new(Some(issuer), Vec::new()).expect("issuers");
    let revoked = Revoked::open(&folder.path().join("revoked.json")).expect("a list");
    World {
        verifier: Verifier::new(
            RESOURCE.to_owned(),
            Duration::from_mins(5),
            Arc::new(issuers),
            Arc::new(revoked),
        ),
        proofs: Proofs::new(RESOURCE.to_owned()).expect("a secret"),
        signer,
        token: token.token.expose().clone(),
        now,
        _folder: folder,
    }
}

#[test]
fn no_token_but_the_issued_one_is_good() {
    let world = world();
    let good = world.token.as_str();
    world
        .verifier
        .verify(good, world.now)
        .expect("the issued one");
    fuzz(
        "token",
        &[good.as_bytes(), b"eyJhbGciOiJub25lIn0.e30."],
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let verified = world.verifier.verify(&text, world.now);
            assert_eq!(verified.is_ok(), text == good);
        },
    );
}

#[test]
fn no_proof_but_the_made_one_is_good() {
    let world = world();
    let claims = world
        .verifier
        .verify(&world.token, world.now)
        .expect("good");
    let nonce = world.proofs.nonce();
    let made = world
        .signer
        .proof(RESOURCE, &world.token, Some(&nonce), Some(&BODY), world.now);
    let good = made.expect("a proof");
    fuzz("proof", &[good.as_bytes()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let checked = world
            .proofs
            .check(&text, &world.token, &claims, &BODY, true, world.now);
        // The nonce of the made one ends within a long run.
        assert!(checked.is_err() || text == good);
    });
}

#[test]
fn claims_of_any_shape_are_read_or_refused() {
    let world = world();
    let claims = world
        .verifier
        .verify(&world.token, world.now)
        .expect("good");
    let pair = KeyPair::ed25519().expect("a key");
    let good = br#"{"jti":"1","htm":"POST","htu":"https://host.example/stockade","iat":1,"ath":"AAAA","nonce":"A"}"#;
    fuzz("claims", &[good, b"{}"], |bytes| {
        // Signed, so that what is inside is looked at.
        let Ok(payload) = json::parse(bytes, json::Limits::default()) else {
            return;
        };
        let mut header = Map::new();
        header.insert("typ".to_owned(), "dpop+jwt".into());
        header.insert("jwk".to_owned(), pair.public().jwk().clone());
        let signed = pair.sign(header, &payload).expect("signed");
        if let Ok(compact) = Compact::read(&signed, 64 * 1_024) {
            assert_eq!(Value::Object(compact.payload.clone()), payload);
            assert!(pair.public().has_signed(&compact));
        }
        let mut holder = (*claims).clone();
        holder.jkt = pair.public().thumbprint();
        let checked = world
            .proofs
            .check(&signed, &world.token, &holder, &BODY, false, world.now);
        assert!(checked.is_err());
    });
}

#[test]
fn what_an_issuer_says_of_itself_leads_nowhere_else() {
    let issuer = "https://id.example/tenant";
    let at = Endpoint::parse(issuer, LoopbackHttp::Refused).expect("a URL");
    let good =
        br#"{"issuer":"https://id.example/tenant","jwks_uri":"https://id.example:443/keys?a=b",
        "token_endpoint":"https://id.example/token","claims_supported":["sub","aud"]}"#;
    let read = |bytes: &[u8]| key_place(bytes, issuer, &at, LoopbackHttp::Refused);
    let place = read(good).expect("a place");
    assert_eq!(place.to_string(), "https://id.example/keys?a=b");
    fuzz("discovery", &[good], |bytes| {
        if let Ok(place) = read(bytes) {
            assert_eq!(place.origin, at.origin, "the same host, port and TLS");
            let text = place.to_string();
            let again = Endpoint::parse(&text, LoopbackHttp::Refused);
            assert_eq!(again, Some(place), "one form: {text}");
        }
    });
}

#[test]
fn urls_of_any_text_have_one_form() {
    let seeds: [&[u8]; 3] = [
        b"https://id.example:8443/a/b?c=d",
        b"http://127.0.0.1:80",
        b"https://[::1]:443/",
    ];
    fuzz("url", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Some(endpoint) = Endpoint::parse(&text, LoopbackHttp::Taken) else {
            return;
        };
        let loopback = endpoint.origin.host.parse::<std::net::IpAddr>();
        let loopback = loopback.is_ok_and(|address| address.is_loopback());
        assert!(endpoint.origin.tls || loopback, "in the clear: {text}");
        let again = Endpoint::parse(&endpoint.to_string(), LoopbackHttp::Taken);
        assert_eq!(again, Some(endpoint), "{text}");
    });
}

#[test]
fn key_sets_of_any_bytes_are_read_or_refused() {
    let pair = KeyPair::p256().expect("a key");
    let id = base64url(&pair.public().thumbprint());
    let good = serde_json::json!({"keys": [pair.public().jwk(), {"kty": "RSA", "use": "enc"}]});
    let good = good.to_string();
    assert!(
        Keys::parse(good.as_bytes())
            .expect("a set")
            .get(&id)
            .is_some()
    );
    fuzz("key set", &[good.as_bytes()], |bytes| {
        drop(Keys::parse(bytes));
    });
}
