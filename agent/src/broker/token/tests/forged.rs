//! Tokens that somebody without a trusted key makes.

use serde_json::{Value, json};

use super::{FOREIGN, LIFETIME_MAX, NOW, RESOURCE, TOKEN_BYTES_MAX, World, claims, header, merge};
use crate::broker::{
    jose::{KeyPair, base64url},
    reason::Reason,
};

/// A token with any header and signature.
fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}.{}", part(header), part(claims), base64url(signature))
}

/// HMAC with bytes that everybody knows: the public key.
fn hmac(input: &str, key: &[u8]) -> Vec<u8> {
    use aws_lc_rs::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, input.as_bytes()).as_ref().to_vec()
}

#[test]
fn no_algorithm_but_the_key_s_own() {
    let world = World::new();
    for algorithm in [
        "none", "None", "nOnE", "", "HS256", "HS512", "RS256", "ES384", "EdDSA", "es256",
    ] {
        let header = json!({"typ": "at+jwt", "kid": "one", "alg": algorithm});
        for signature in [&[][..], &[0; 64]] {
            let token = raw(&header, &claims(), signature);
            assert_eq!(
                world.verify(&token, NOW),
                Err(Reason::TokenAlgorithm),
                "{algorithm}"
            );
        }
    }
    for header in [
        json!({"typ": "at+jwt", "kid": "one"}),
        json!({"typ": "at+jwt", "kid": "one", "alg": null}),
        json!({"typ": "at+jwt", "kid": "one", "alg": ["ES256"]}),
    ] {
        let token = raw(&header, &claims(), &[0; 64]);
        assert_eq!(
            world.verify(&token, NOW),
            Err(Reason::TokenAlgorithm),
            "{header}"
        );
    }
}

#[test]
fn the_public_key_is_no_secret() {
    let world = World::new();
    let header = json!({"typ": "at+jwt", "kid": "one", "alg": "HS256"});
    let unsigned = raw(&header, &claims(), &[]);
    let input = unsigned.strip_suffix('.').expect("a dot");
    let jwk = world.p256.public().jwk().to_string();
    let token = format!("{input}.{}", base64url(&hmac(input, jwk.as_bytes())));
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenAlgorithm));
}

#[test]
fn another_key_is_another_key() {
    let world = World::new();
    let stranger = KeyPair::p256().expect("a key");
    let token = stranger.sign(header("one"), &claims()).expect("signed");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenSignature));
    // The issuer's other key under the name of the first: another kind.
    let token = world
        .ed25519
        .sign(header("one"), &claims())
        .expect("signed");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenAlgorithm));
    let token = world.p256.sign(header("three"), &claims()).expect("signed");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenKey));
    // The embedded issuer's name, signed by a foreign key under the embedded key's id.
    let own = merge(claims(), &json!({"iss": format!("{RESOURCE}/issuer")}));
    let token = world
        .ed25519
        .sign(header(&world.embedded.key_id()), &own)
        .expect("signed");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenSignature));
    assert_ne!(world.embedded.issuer(), FOREIGN);
}

#[test]
fn headers_do_not_choose_the_key() {
    let world = World::new();
    let stranger = KeyPair::p256().expect("a key");
    for (name, value) in [
        ("jwk", stranger.public().jwk().clone()),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/chain")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
    ] {
        for pair in [&stranger, &world.p256] {
            let mut header = header("one");
            header.insert(name.to_owned(), value.clone());
            let token = pair.sign(header, &claims()).expect("signed");
            assert_eq!(
                world.verify(&token, NOW),
                Err(Reason::TokenAlgorithm),
                "{name}"
            );
        }
    }
    for kind in [
        json!(null),
        json!("JWT"),
        json!("at+jwt "),
        json!("dpop+jwt"),
        json!(1),
    ] {
        let mut header = header("one");
        header.insert("typ".to_owned(), kind.clone());
        let token = world.p256.sign(header, &claims()).expect("signed");
        assert_eq!(
            world.verify(&token, NOW),
            Err(Reason::TokenAlgorithm),
            "{kind}"
        );
    }
    for id in [
        json!(null),
        json!(""),
        json!(1),
        json!(["one"]),
        json!("one\n"),
    ] {
        let mut header = header("one");
        header.insert("kid".to_owned(), id.clone());
        let token = world.p256.sign(header, &claims()).expect("signed");
        assert_eq!(world.verify(&token, NOW), Err(Reason::TokenKey), "{id}");
    }
    for kind in ["AT+JWT", "application/at+jwt"] {
        let mut header = header("one");
        header.insert("typ".to_owned(), kind.into());
        let token = world.p256.sign(header, &claims()).expect("signed");
        assert!(world.verify(&token, NOW).is_ok(), "{kind}");
    }
}

#[test]
fn no_byte_can_be_changed() {
    let world = World::new();
    let token = world.foreign(&json!({}));
    assert!(world.verify(&token, NOW).is_ok());
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).expect("ASCII");
        assert!(world.verify(&other, NOW).is_err(), "byte {at}");
    }
    assert!(world.verify(&format!("{token}A"), NOW).is_err());
    for other in [
        format!("{token}="),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}."),
        format!("DPoP {token}"),
        token.replace('.', ".."),
        token[..token.len() - 1].to_owned(),
        String::new(),
    ] {
        assert_eq!(
            world.verify(&other, NOW),
            Err(Reason::TokenMalformed),
            "{other}"
        );
    }
}

#[test]
fn size_is_bounded_before_anything_is_read() {
    let world = World::new();
    let token = world.foreign(&json!({"padding": "a".repeat(5_000)}));
    assert!(token.len() < TOKEN_BYTES_MAX && world.verify(&token, NOW).is_ok());
    let token = world.foreign(&json!({"padding": "a".repeat(6_500)}));
    assert!(token.len() > TOKEN_BYTES_MAX);
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenMalformed));
    let deep = "[".repeat(50) + &"]".repeat(50);
    let deep: Value = serde_json::from_str(&deep).expect("json");
    let token = world.foreign(&json!({ "deep": deep }));
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenMalformed));
    assert_eq!(LIFETIME_MAX.as_secs(), 900);
}

#[test]
fn what_another_library_signs_is_read() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    let world = World::new();
    let document = world.p256.to_pkcs8().expect("a document");
    let mut header = Header::new(Algorithm::ES256);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some("one".to_owned());
    let key = EncodingKey::from_ec_der(document.expose());
    let token = jsonwebtoken::encode(&header, &claims(), &key).expect("signed");
    assert!(world.verify(&token, NOW).is_ok());
}
