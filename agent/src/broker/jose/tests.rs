//! Vectors of the RFCs, the vectors of Wycheproof, and keys that must be refused.

mod vectors;

use expect_test::expect;
use serde_json::{Map, Value, json};

use super::{Compact, KeyError, KeyPair, Malformed, PublicKey, base64url, from_base64url};
use crate::secret::Secret;

/// RFC 7638, 3.1.
const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
/// RFC 7515, A.3.
const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// RFC 8037, A.2.
const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn key(jwk: &Value) -> Result<PublicKey, KeyError> {
    PublicKey::from_jwk(jwk.as_object().expect("an object"))
}

fn rsa() -> Value {
    json!({"kty": "RSA", "n": RSA_N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
}

fn p256() -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y})
}

fn ed25519() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": ED_X})
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk.as_object_mut()
        .expect("an object")
        .insert(name.to_owned(), value.into());
    jwk
}

#[test]
fn thumbprints_of_the_rfcs() {
    let print = |jwk: &Value| base64url(&key(jwk).expect("a key").thumbprint());
    // RFC 7638, 3.1.
    expect!["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"].assert_eq(&print(&rsa()));
    // RFC 8037, A.3.
    expect!["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"].assert_eq(&print(&ed25519()));
}

#[test]
fn signatures_of_the_rfcs() {
    // RFC 7515, A.3.
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let read = Compact::read(token, 1_024).expect("compact");
    assert!(key(&p256()).expect("a key").has_signed(&read));
    assert!(!key(&ed25519()).expect("a key").has_signed(&read));
    // RFC 8037, A.4.
    let (input, signature) = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".rsplit_once('.').expect("parts");
    let ed25519 = key(&ed25519()).expect("a key");
    assert!(ed25519.has_signed_bytes(input.as_bytes(), signature));
    assert!(!ed25519.has_signed_bytes(b"else", signature));
}

#[test]
fn keys_that_are_none() {
    let off_curve = EC_Y.replace('x', "y");
    let short = &EC_X[..40];
    let cases: Vec<(Value, KeyError)> = vec![
        (with(rsa(), "d", "AQAB"), KeyError::Private),
        (with(p256(), "d", EC_X), KeyError::Private),
        (json!({"kty": "oct", "k": "AAAA"}), KeyError::Private),
        (json!({"kty": "oct"}), KeyError::Kind),
        (json!({}), KeyError::Member("kty")),
        (with(p256(), "crv", "P-384"), KeyError::Kind),
        (with(p256(), "crv", "secp256k1"), KeyError::Kind),
        (with(ed25519(), "crv", "X25519"), KeyError::Kind),
        (with(ed25519(), "crv", "Ed448"), KeyError::Kind),
        (with(p256(), "alg", "ES384"), KeyError::Algorithm),
        (with(p256(), "alg", "RS256"), KeyError::Algorithm),
        (with(p256(), "alg", 1), KeyError::Algorithm),
        (with(rsa(), "alg", "none"), KeyError::Algorithm),
        (with(rsa(), "alg", "HS256"), KeyError::Algorithm),
        (with(rsa(), "alg", "RS1"), KeyError::Algorithm),
        (with(rsa(), "use", "enc"), KeyError::Use),
        (with(rsa(), "key_ops", json!(["sign"])), KeyError::Use),
        (with(rsa(), "key_ops", "verify"), KeyError::Use),
        (with(p256(), "y", off_curve), KeyError::Invalid),
        (with(p256(), "x", short), KeyError::Member("x")),
        (with(p256(), "x", format!("{EC_X}=")), KeyError::Member("x")),
        (with(p256(), "x", Value::Null), KeyError::Member("x")),
        (with(rsa(), "e", "AQ"), KeyError::Invalid),
        (with(rsa(), "e", "AQAA"), KeyError::Invalid),
        (with(rsa(), "e", "AAEAAQ"), KeyError::Member("e")),
        (with(rsa(), "e", "AQAAAAAB"), KeyError::Invalid),
        (with(rsa(), "n", &RSA_N[..340]), KeyError::Size),
        (with(rsa(), "n", base64url(&[0xff; 1_025])), KeyError::Size),
    ];
    for (jwk, expected) in cases {
        match key(&jwk) {
            Ok(_) => panic!("taken: {jwk}"),
            Err(error) => assert_eq!(error, expected, "{jwk}"),
        }
    }
}

#[test]
fn keys_that_anybody_can_sign_for() {
    // The identity point, and a signature that needs no private key.
    let mut identity = [0_u8; 32];
    identity[0] = 1;
    let forged = base64url(&[&identity[..], &[0; 32]].concat());
    let lax = jsonwebtoken::DecodingKey::from_ed_der(&identity);
    let algorithm = jsonwebtoken::Algorithm::EdDSA;
    let taken = jsonwebtoken::crypto::verify(&forged, b"anything", &lax, algorithm);
    assert!(matches!(taken, Ok(true)), "the forgery is none: {taken:?}");
    for hex in super::key::SMALL_ORDER {
        let bytes: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect();
        for sign in [0, 0x80] {
            let mut point = bytes.clone();
            point[31] |= sign;
            let jwk = with(ed25519(), "x", base64url(&point));
            assert!(matches!(key(&jwk), Err(KeyError::Invalid)), "{hex} {sign}");
        }
    }
}

#[test]
fn an_rsa_key_has_one_algorithm() {
    let mut jwk = rsa();
    assert_eq!(key(&jwk).expect("a key").algorithm().name(), "RS256");
    jwk["alg"] = "PS256".into();
    assert_eq!(key(&jwk).expect("a key").algorithm().name(), "PS256");
    jwk.as_object_mut().expect("an object").remove("alg");
    assert_eq!(key(&jwk).expect("a key").algorithm().name(), "RS256");
}

#[test]
fn compact_forms_that_are_none() {
    let part = |text: &str| base64url(text.as_bytes());
    let (good, empty) = (part(r#"{"alg":"ES256"}"#), part("{}"));
    assert!(Compact::read(&format!("{good}.{empty}.AA"), 1_024).is_ok());
    let cases = [
        (String::new(), "not three parts"),
        (good.clone(), "not three parts"),
        (format!("{good}.{empty}"), "not three parts"),
        (format!("{good}.{empty}.AA.AA"), "not three parts"),
        (format!("{good}.{empty}.AA="), "signature: no base64url"),
        (format!("{good}.{empty}.AB"), "signature: no base64url"),
        (format!("{good}.{empty}.A+"), "signature: no base64url"),
        (format!("{good}=.{empty}.AA"), "header: no base64url"),
        (
            format!(".{empty}.AA"),
            "header: json: malformed at line 1, column 0",
        ),
        (format!("{}.{empty}.AA", part("[]")), "header: no object"),
        (
            format!("{}.{empty}.AA", part(r#"{"alg":"ES256","alg":"none"}"#)),
            "header: json: a key twice in one object, line 1, column 20",
        ),
        (format!("{good}.{}.AA", part("{} ")), ""),
        (
            format!("{good}.{}.AA", part("{}{}")),
            "payload: json: malformed at line 1, column 3",
        ),
        (format!(" {good}.{empty}.AA"), "header: no base64url"),
        (format!("{good}.{empty}.AA\n"), "signature: no base64url"),
    ];
    for (text, expected) in cases {
        let said =
            Compact::read(&text, 1_024).map_or_else(|why| why.to_string(), |_| String::new());
        assert_eq!(said, expected, "{text}");
    }
    let long = Compact::read(&"a".repeat(1_025), 1_024).expect_err("long");
    assert_eq!(long, Malformed::Long(1_024));
}

#[test]
fn pairs_sign_what_their_public_keys_take() {
    for pair in [KeyPair::p256(), KeyPair::ed25519()] {
        let pair = pair.expect("a key");
        let token = pair.sign(Map::new(), &json!({"a": 1})).expect("signed");
        let read = Compact::read(&token, 1_024).expect("compact");
        assert_eq!(read.text("alg"), Some(pair.public().algorithm().name()));
        assert!(pair.public().has_signed(&read));
        // And another library reads it.
        let document = pair.to_pkcs8().expect("a document");
        let again = KeyPair::from_pkcs8(&document).expect("a key");
        assert_eq!(again.public().thumbprint(), pair.public().thumbprint());
        assert!(!format!("{pair:?}").contains(&base64url(document.expose())));
        let flipped = flip(&token);
        let read = Compact::read(&flipped, 1_024).expect("compact");
        assert!(!pair.public().has_signed(&read));
    }
    assert!(KeyPair::from_pkcs8(&Secret::new(vec![0; 48])).is_err());
}

/// The token with one bit of its signature turned.
fn flip(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').expect("parts");
    let mut signature = from_base64url(signature).expect("base64url");
    signature[40] ^= 1;
    format!("{input}.{}", base64url(&signature))
}
