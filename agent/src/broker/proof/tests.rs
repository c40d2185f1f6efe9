//! Every way in which a proof can be wrong, races for one proof, and clocks that jump.

mod holder;
mod memory;
mod remembered;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{Checked, Proofs, Signer};
use crate::{
    broker::{
        jose::{Algorithm, KeyPair, base64url, from_base64url},
        reason::Reason,
        token::Claims,
    },
    json::sha256,
};

const RESOURCE: &str = "https://host.example/stockade";
const TOKEN: &str = "the.access.token";
const NOW: u64 = 1_800_000_000;
const BODY: [u8; 32] = [3; 32];

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn claims(jkt: [u8; 32]) -> Claims {
    let text = |text: &str| text.to_owned();
    Claims {
        issuer: text("https://id.example"),
        subject: text("alice"),
        client: text("orchestrator"),
        token_id: text("t1"),
        key_id: text("one"),
        scopes: vec![text("invoice:read")],
        issued: at(NOW),
        not_before: None,
        expires: at(NOW + 300),
        jkt,
        tool: None,
        purpose: None,
        session_hash: None,
        actors: Vec::new(),
        arguments_digest: None,
    }
}

fn proofs() -> Proofs {
    Proofs::new(RESOURCE.to_owned()).expect("a secret")
}

fn check(proofs: &Proofs, signer: &Signer, proof: &str) -> Result<Checked, Reason> {
    let claims = claims(signer.thumbprint());
    let checked = proofs.check(proof, TOKEN, &claims, &BODY, false, at(NOW));
    checked.map_err(|refused| refused.reason)
}

/// A proof with header and claims changed; null takes a member out.
fn odd(proofs: &Proofs, pair: &KeyPair, header: &Value, changes: &Value) -> String {
    let mut all = json!({
        "jti": "p1", "htm": "POST", "htu": RESOURCE, "iat": NOW, "nonce": proofs.nonce(),
        "ath": base64url(&sha256(TOKEN.as_bytes())),
    });
    let mut head = json!({"typ": "dpop+jwt", "jwk": pair.public().jwk()});
    for (into, changes) in [(&mut all, changes), (&mut head, header)] {
        let into = into.as_object_mut().expect("an object");
        for (name, value) in changes.as_object().expect("an object") {
            into.insert(name.clone(), value.clone());
            into.retain(|_, value| !value.is_null());
        }
    }
    let head = head.as_object().expect("an object").clone();
    pair.sign(head, &all).expect("signed")
}

#[test]
fn a_good_proof_is_taken_once() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let (proofs, signer) = (proofs(), Signer::generate(algorithm).expect("a key"));
        let proof = signer
            .proof(RESOURCE, TOKEN, Some(&proofs.nonce()), Some(&BODY), at(NOW))
            .expect("a proof");
        let first = check(&proofs, &signer, &proof).expect("good");
        // A check that comes to nothing uses nothing up.
        let second = check(&proofs, &signer, &proof).expect("good");
        proofs.spend(first).map(drop).expect("spent");
        let again = proofs.spend(second).map_err(|refused| refused.reason);
        assert_eq!(again.err(), Some(Reason::ProofReplayed));
        let third = check(&proofs, &signer, &proof).expect("nothing but replayed");
        assert!(proofs.spend(third).is_err());
        assert_eq!(proofs.remembered(), 1);
    }
}

#[test]
fn one_of_a_thousand_wins() {
    let (proofs, signer) = (proofs(), Signer::generate(Algorithm::EdDsa).expect("a key"));
    for _ in 0..5 {
        let proof = signer.proof(RESOURCE, TOKEN, Some(&proofs.nonce()), None, at(NOW));
        let proof = proof.expect("a proof");
        let won = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let checked = check(&proofs, &signer, &proof).expect("good");
                        if proofs.spend(checked).is_ok() {
                            won.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 1);
    }
}

/// What is said of a proof with some claims changed.
fn said(changes: &Value) -> Option<Reason> {
    let (proofs, pair) = (proofs(), KeyPair::ed25519().expect("a key"));
    let holder = claims(pair.public().thumbprint());
    let proof = odd(&proofs, &pair, &json!({}), changes);
    let checked = proofs.check(&proof, TOKEN, &holder, &BODY, false, at(NOW));
    checked.map_err(|refused| refused.reason).err()
}

fn refuse(changes: &Value, expected: Reason) {
    assert_eq!(said(changes), Some(expected), "{changes}");
}

#[test]
fn a_proof_is_for_one_request() {
    assert_eq!(said(&json!({})), None);
    for id in [json!(null), json!(""), json!(1), json!("a".repeat(129))] {
        refuse(&json!({ "jti": id }), Reason::ProofMalformed);
    }
    for method in ["GET", "post", "", "POST "] {
        refuse(&json!({ "htm": method }), Reason::ProofTarget);
    }
    for resource in [
        "https://other.example/stockade",
        "https://host.example/stockade/",
        "https://host.example/stockade?",
        "https://HOST.example/stockade",
        "",
    ] {
        refuse(&json!({ "htu": resource }), Reason::ProofTarget);
    }
    refuse(&json!({"htm": null}), Reason::ProofMalformed);
    refuse(
        &json!({"htu": ["https://host.example/stockade"]}),
        Reason::ProofMalformed,
    );
    refuse(&json!({"ath": null}), Reason::ProofMalformed);
    refuse(&json!({"ath": "AAAA"}), Reason::ProofMalformed);
    refuse(
        &json!({"ath": base64url(&sha256(b"another"))}),
        Reason::ProofToken,
    );
}

#[test]
fn a_proof_is_for_this_moment() {
    for made in [json!(null), json!(NOW.to_string()), json!(-1), json!(1.5)] {
        refuse(&json!({ "iat": made }), Reason::ProofMalformed);
    }
    for made in [NOW - 61, NOW + 61, 0, 9_007_199_254_740_991] {
        refuse(&json!({ "iat": made }), Reason::ProofTime);
    }
    for shown in [
        json!(null),
        json!(""),
        json!("AAAA"),
        json!(base64url(&[0; 24])),
        json!(base64url(&[0; 25])),
    ] {
        refuse(&json!({ "nonce": shown }), Reason::ProofNonce);
    }
    refuse(&json!({"nonce": 1}), Reason::ProofMalformed);
    let other = Proofs::new(RESOURCE.to_owned()).expect("a secret").nonce();
    refuse(&json!({ "nonce": other }), Reason::ProofNonce);
    for body in [json!(""), json!(1), json!({}), json!("AAAA")] {
        refuse(&json!({ "body_digest": body }), Reason::ProofMalformed);
    }
    refuse(
        &json!({"body_digest": base64url(&[4; 32])}),
        Reason::ProofBody,
    );
    for made in [NOW - 60, NOW + 60] {
        assert_eq!(said(&json!({ "iat": made })), None);
    }
}

#[test]
fn headers_are_closed() {
    let (proofs, pair) = (proofs(), KeyPair::p256().expect("a key"));
    let holder = claims(pair.public().thumbprint());
    let mut private = pair.public().jwk().clone();
    private["d"] = json!(base64url(&[1; 32]));
    for header in [
        json!({"typ": null}),
        json!({"typ": "JWT"}),
        json!({"typ": "at+jwt"}),
        json!({"typ": "DPOP+JWT"}),
        json!({"jwk": null}),
        json!({"jwk": "key"}),
        json!({"jwk": {}}),
        json!({"jwk": private}),
        json!({"jwk": {"kty": "oct", "k": "AAAA"}}),
        json!({"crit": ["htm"]}),
        json!({"jku": "https://evil.example"}),
        json!({"x5c": []}),
        json!({"b64": false}),
        json!({"zip": "DEF"}),
    ] {
        let proof = odd(&proofs, &pair, &header, &json!({}));
        let checked = proofs.check(&proof, TOKEN, &holder, &BODY, false, at(NOW));
        let reason = checked.map_err(|refused| refused.reason).err();
        assert_eq!(reason, Some(Reason::ProofMalformed), "{header}");
    }
    // `alg` that is not the key's, with a signature of the key.
    let proof = odd(&proofs, &pair, &json!({}), &json!({}));
    let (head, rest) = proof.split_once('.').expect("parts");
    let head = String::from_utf8(from_base64url(head).expect("base64url")).expect("UTF-8");
    for algorithm in ["none", "HS256", "EdDSA", "RS256", "ES384"] {
        let head = head.replace("ES256", algorithm);
        let proof = format!("{}.{rest}", base64url(head.as_bytes()));
        let checked = proofs.check(&proof, TOKEN, &holder, &BODY, false, at(NOW));
        let reason = checked.map_err(|refused| refused.reason).err();
        assert_eq!(reason, Some(Reason::ProofMalformed), "{algorithm}");
    }
}

#[test]
fn a_verb_may_want_the_body() {
    let (proofs, signer) = (proofs(), Signer::generate(Algorithm::EdDsa).expect("a key"));
    let claims = claims(signer.thumbprint());
    let nonce = proofs.nonce();
    let proof = |body| {
        signer
            .proof(RESOURCE, TOKEN, Some(&nonce), body, at(NOW))
            .expect("a proof")
    };
    let check = |proof: &str, required| {
        let checked = proofs.check(proof, TOKEN, &claims, &BODY, required, at(NOW));
        checked.map(drop).map_err(|refused| refused.reason)
    };
    assert_eq!(check(&proof(None), false), Ok(()));
    assert_eq!(check(&proof(None), true), Err(Reason::ProofBody));
    assert_eq!(check(&proof(Some(&BODY)), true), Ok(()));
    assert_eq!(check(&proof(Some(&[4; 32])), false), Err(Reason::ProofBody));
}
