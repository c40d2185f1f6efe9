//! Claims of every wrong shape, signed by a key that is trusted.

use serde_json::{Value, json};

use super::{NOW, RESOURCE, World};
use crate::broker::{jose::base64url, reason::Reason};

/// A claim and the values that it must not have.
type Wrong = (&'static str, Vec<Value>);

fn refuse(wrong: Vec<Wrong>) {
    let world = World::new();
    for (claim, values) in wrong {
        for value in values {
            let token = world.foreign(&json!({ claim: value }));
            let reason = world.verify(&token, NOW).err();
            assert_eq!(reason, Some(Reason::TokenClaims), "{claim}: {value}");
        }
    }
}

#[test]
fn names_and_times_have_their_shape() {
    let long = "a".repeat(257);
    refuse(vec![
        (
            "sub",
            vec![
                json!(null),
                json!(""),
                json!(1),
                json!("a\u{1b}[2J"),
                json!(long),
                json!(["a"]),
            ],
        ),
        ("client_id", vec![json!(null), json!(""), json!({})]),
        ("jti", vec![json!(null), json!(""), json!(7), json!("\n")]),
        (
            "iat",
            vec![
                json!(null),
                json!("1800000000"),
                json!(-1),
                json!(1.5),
                json!(true),
            ],
        ),
        (
            "exp",
            vec![
                json!(null),
                json!("1800000300"),
                json!(9_007_199_254_740_991_u64),
            ],
        ),
        ("nbf", vec![json!("0"), json!(0.5), json!([])]),
    ]);
}

#[test]
fn scopes_and_bonds_have_their_shape() {
    let long = "a".repeat(257);
    let many = vec!["a"; 65].join(" ");
    refuse(vec![
        (
            "scope",
            vec![
                json!(null),
                json!(""),
                json!(" "),
                json!("a  b"),
                json!(" a"),
                json!("a "),
                json!("a\tb"),
                json!("a\"b"),
                json!("a\\b"),
                json!("é"),
                json!(["a"]),
                json!(many),
            ],
        ),
        (
            "cnf",
            vec![
                json!(null),
                json!({}),
                json!({"jkt": ""}),
                json!({"jkt": "AAAA"}),
                json!({"jkt": format!("{}=", base64url(&[7; 32]))}),
                json!({"x5t#S256": base64url(&[7; 32])}),
                json!({"jkt": base64url(&[7; 32]), "jwk": {}}),
                json!("jkt"),
                json!([]),
            ],
        ),
        (
            "tool",
            vec![json!(""), json!(1), json!(["invoice"]), json!(long)],
        ),
        (
            "purpose",
            vec![json!(""), json!({}), json!("a".repeat(513))],
        ),
        ("session_hash", vec![json!(1), json!("")]),
        (
            "args_digest",
            vec![
                json!(""),
                json!("AAAA"),
                json!(1),
                json!(base64url(&[7; 33])),
            ],
        ),
    ]);
}

#[test]
fn actors_and_audiences_have_their_shape() {
    refuse(vec![
        (
            "act",
            vec![
                json!("a"),
                json!({}),
                json!({"sub": ""}),
                json!({"sub": 1}),
                json!({"sub": "a", "act": {"sub": "b", "act": {"sub": "c", "act": {"sub": "d"}}}}),
                json!({"sub": "a", "act": "b"}),
            ],
        ),
        (
            "aud",
            vec![
                json!(null),
                json!(1),
                json!({}),
                json!([RESOURCE, 1]),
                json!(vec![RESOURCE; 17]),
            ],
        ),
        ("iss", vec![json!(null), json!(""), json!(1)]),
    ]);
}

#[test]
fn audience_and_issuer_are_exact() {
    let world = World::new();
    let changes = [
        (
            json!({"aud": "https://host.example/stockade/"}),
            Reason::TokenAudience,
        ),
        (
            json!({"aud": "https://HOST.example/stockade"}),
            Reason::TokenAudience,
        ),
        (
            json!({"aud": "https://host.example"}),
            Reason::TokenAudience,
        ),
        (json!({"aud": []}), Reason::TokenAudience),
        (
            json!({"aud": ["https://other.example"]}),
            Reason::TokenAudience,
        ),
        (json!({"iss": "https://id.example/"}), Reason::TokenIssuer),
        (json!({"iss": "https://evil.example"}), Reason::TokenIssuer),
        // The embedded issuer has no key of this name.
        (
            json!({"iss": format!("{RESOURCE}/issuer")}),
            Reason::TokenKey,
        ),
    ];
    for (changes, expected) in changes {
        assert_eq!(
            world.verify(&world.foreign(&changes), NOW),
            Err(expected),
            "{changes}"
        );
    }
}
