//! The signature vectors of Project Wycheproof against the keys as tokens use them: fixed-length
//! ECDSA, Ed25519, both kinds of RSA. Among them DER where it does not belong, numbers out of range,
//! signatures with something behind them.

use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use crate::broker::jose::{PublicKey, base64url};

/// Checks one vector; tells whether it was a good signature.
fn check(jwk: &Value, message: &[u8], signature: &[u8], expected: TestResult, id: usize) -> bool {
    let key = PublicKey::from_jwk(jwk.as_object().expect("an object"));
    let key = key.unwrap_or_else(|error| panic!("{error}: {jwk}"));
    let taken = key.has_signed_bytes(message, &base64url(signature));
    match expected {
        TestResult::Valid => assert!(taken, "vector {id} is refused"),
        TestResult::Invalid => assert!(!taken, "vector {id} is taken"),
        TestResult::Acceptable => {}
    }
    taken
}

#[test]
fn ecdsa_of_fixed_length() {
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256P1363;
    let mut good = 0;
    for group in ecdsa::TestSet::load(name).expect("vectors").test_groups {
        let point: &[u8] = &group.key.key;
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        for test in group.tests {
            good += usize::from(check(&jwk, &test.msg, &test.sig, test.result, test.tc_id));
        }
    }
    assert!(good > 100, "{good}");
}

#[test]
fn der_is_no_signature() {
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256;
    let mut seen = 0;
    for group in ecdsa::TestSet::load(name).expect("vectors").test_groups {
        let point: &[u8] = &group.key.key;
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        for test in group.tests {
            // All of these are DER, good and bad.
            check(&jwk, &test.msg, &test.sig, TestResult::Invalid, test.tc_id);
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn ed25519() {
    let mut good = 0;
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("vectors");
    for group in set.test_groups {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&group.key.pk)});
        for test in group.tests {
            good += usize::from(check(&jwk, &test.msg, &test.sig, test.result, test.tc_id));
        }
    }
    assert!(good > 50, "{good}");
}

#[test]
fn rsa_with_pkcs1_padding() {
    let mut good = 0;
    let name = rsa_pkcs1_verify::TestName::Rsa2048Sha256;
    for group in rsa_pkcs1_verify::TestSet::load(name)
        .expect("vectors")
        .test_groups
    {
        let jwk = rsa("RS256", &group.key.n, &group.key.e);
        for test in group.tests {
            good += usize::from(check(&jwk, &test.msg, &test.sig, test.result, test.tc_id));
        }
    }
    assert!(good > 5, "{good}");
}

#[test]
fn rsa_with_pss_padding() {
    let mut good = 0;
    let name = rsa_pss_verify::TestName::RsaPss2048Sha256Mgf1SaltLen32;
    for group in rsa_pss_verify::TestSet::load(name)
        .expect("vectors")
        .test_groups
    {
        let jwk = rsa("PS256", &group.key.n, &group.key.e);
        for test in group.tests {
            good += usize::from(check(&jwk, &test.msg, &test.sig, test.result, test.tc_id));
        }
    }
    assert!(good > 5, "{good}");
}

fn rsa(algorithm: &str, n: &[u8], e: &[u8]) -> Value {
    // The vectors have a zero in front of numbers whose first bit is set.
    let bare = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        base64url(&number[zeros..])
    };
    json!({"kty": "RSA", "alg": algorithm, "n": bare(n), "e": bare(e)})
}
