//! Tokens that were good and are not any more.

use std::{fs, time::Duration};

use serde_json::json;

use super::{NOW, World, at, claims, header, jwks, order};
use crate::broker::{
    issuer::{Revoked, Rotation, Target},
    reason::Reason,
    token::Claims,
};

/// What is revoked of a token, and whether a later one is good.
type Case = (fn(&Claims) -> Target, bool);

#[test]
fn revocation_is_in_force_at_once() {
    let targets: [Case; 5] = [
        (|claims| Target::Token(claims.token_id.clone()), false),
        (|claims| Target::Subject(claims.subject.clone()), true),
        (|claims| Target::Client(claims.client.clone()), true),
        (|_| Target::Tool("invoice".to_owned()), true),
        (|claims| Target::Key(claims.key_id.clone()), false),
    ];
    for (target, later_is_good) in targets {
        let world = World::new();
        let token = world.own(&order(), NOW);
        let claims = world.verify(&token, NOW).expect("good");
        let target = target(&claims);
        world.revoked.revoke(&target, at(NOW)).expect("revoked");
        assert_eq!(
            world.verify(&token, NOW),
            Err(Reason::TokenRevoked),
            "{target:?}"
        );
        // One of the same second could be as old.
        let twin = world.own(&order(), NOW);
        let twin = world.verify(&twin, NOW);
        assert_eq!(
            twin.is_err(),
            !matches!(target, Target::Token(_)),
            "{target:?}"
        );
        // One that was issued later is another, unless the key itself is bad.
        let later = world.verify(&world.own(&order(), NOW + 1), NOW + 1);
        assert_eq!(
            later.is_ok(),
            later_is_good || matches!(target, Target::Token(_)),
            "{target:?}"
        );
        // Over a restart.
        let again = Revoked::open(&world.folder.path().join("revoked.json")).expect("a list");
        assert!(again.check(&claims, Duration::ZERO).is_err(), "{target:?}");
    }
}

#[test]
fn a_clock_that_is_ahead_does_not_escape_revocation() {
    let world = World::new();
    let token = world.foreign(&json!({"iat": NOW + 20, "exp": NOW + 300}));
    assert!(world.verify(&token, NOW).is_ok());
    world
        .revoked
        .revoke(&Target::Subject("alice".to_owned()), at(NOW))
        .expect("revoked");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenRevoked));
}

#[test]
fn a_token_without_a_tool_is_revoked_with_the_tool() {
    let world = World::new();
    let claims = world.verify(&world.foreign(&json!({})), NOW).expect("good");
    let check = |tool: &str| {
        let checked = world.verifier.check_tool(&claims, tool);
        checked.map_err(|refused| refused.reason)
    };
    assert_eq!(check("invoice"), Ok(()));
    world
        .revoked
        .revoke(&Target::Tool("invoice".to_owned()), at(NOW))
        .expect("revoked");
    assert_eq!(check("invoice"), Err(Reason::TokenRevoked));
    assert_eq!(check("mail"), Ok(()));
    let bound = world
        .verify(&world.foreign(&json!({"tool": "mail"})), NOW)
        .expect("good");
    let other = world
        .verifier
        .check_tool(&bound, "web")
        .map_err(|refused| refused.reason);
    assert_eq!(other, Err(Reason::TokenTool));
}

#[test]
fn rotation_is_graceful_or_forced() {
    let world = World::new();
    let token = world.own(&order(), NOW);
    assert!(world.verify(&token, NOW).is_ok());
    let next = world
        .embedded
        .rotate(Rotation::Graceful, at(NOW))
        .expect("rotated");
    assert!(world.verify(&token, NOW).is_ok());
    let newer = world.own(&order(), NOW);
    assert_eq!(world.verify(&newer, NOW).expect("good").key_id, next);
    world
        .embedded
        .rotate(Rotation::Forced, at(NOW))
        .expect("rotated");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenKey));
    assert_eq!(world.verify(&newer, NOW), Err(Reason::TokenKey));
    assert!(world.verify(&world.own(&order(), NOW), NOW).is_ok());
}

#[test]
fn a_key_that_goes_from_the_file_takes_its_tokens_along() {
    let world = World::new();
    let token = world.foreign(&json!({}));
    assert!(world.verify(&token, NOW).is_ok());
    let file = world.folder.path().join("id.jwks");
    fs::write(&file, jwks(&[("two", &world.ed25519)])).expect("written");
    world.issuers.reload().expect("reloaded");
    assert_eq!(world.verify(&token, NOW), Err(Reason::TokenKey));
    // A file with a mistake changes nothing.
    let other = world
        .ed25519
        .sign(header("two"), &claims())
        .expect("signed");
    assert!(world.verify(&other, NOW).is_ok());
    fs::write(&file, "{\"keys\":[]}").expect("written");
    assert!(world.issuers.reload().is_err());
    assert!(world.verify(&other, NOW).is_ok());
}
