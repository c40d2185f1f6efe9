//! Keys and revocations over restarts, and files that must not be believed.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use expect_test::expect;
use serde_json::{Value, json};

use super::{
    Embedded, Error, Issuers, Keys, Order, REVOCATIONS_MAX, Revoked, Rotation, StaticIssuer,
    Target, embedded::KEY_LIFE, jwks, revoked::KEPT,
};
use crate::broker::{
    jose::{KeyPair, base64url, from_base64url},
    token::LIFETIME_MAX,
};

const ISSUER: &str = "https://host.example/stockade/issuer";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn open(folder: &Path) -> Result<Embedded, Error> {
    let audience = "https://host.example/stockade".to_owned();
    Embedded::open(
        &folder.join("issuer.json"),
        ISSUER.to_owned(),
        audience,
        at(NOW),
    )
}

fn order() -> Order {
    Order {
        subject: "alice".to_owned(),
        client: "orchestrator".to_owned(),
        scopes: vec!["invoice:read".to_owned()],
        tool: None,
        lifetime: Duration::from_mins(5),
        jkt: [7; 32],
        purpose: None,
        session_hash: None,
        arguments_digest: None,
    }
}

#[test]
fn the_key_survives_a_restart_and_is_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path()).expect("an issuer");
    let id = first.key_id();
    let file = folder.path().join("issuer.json");
    assert_eq!(fs::metadata(&file).expect("a file").mode() & 0o777, 0o600);
    let again = open(folder.path()).expect("an issuer");
    assert_eq!(again.key_id(), id);
    assert!(again.key(&id, at(NOW)).is_some());
    // What others could have read or written is no key of ours.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
    assert!(matches!(open(folder.path()), Err(Error::File(_))));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let aside = folder.path().join("aside");
    fs::rename(&file, &aside).expect("moved");
    symlink(&aside, &file).expect("linked");
    assert!(matches!(open(folder.path()), Err(Error::File(_))));
    fs::remove_file(&file).expect("removed");
    fs::write(&file, "{}").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    assert!(matches!(open(folder.path()), Err(Error::Damaged { .. })));
}

#[test]
fn retired_keys_are_believed_for_the_life_of_their_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = open(folder.path()).expect("an issuer");
    let first = issuer.key_id();
    let before = issuer.generation();
    let second = issuer.rotate(Rotation::Graceful, at(NOW)).expect("rotated");
    assert_ne!(issuer.generation(), before);
    let last = NOW + LIFETIME_MAX.as_secs() - 1;
    for issuer in [&issuer, &open(folder.path()).expect("an issuer")] {
        assert_eq!(issuer.key_id(), second);
        assert!(issuer.key(&first, at(last)).is_some());
        assert!(issuer.key(&first, at(last + 1)).is_none());
        let ids = |now| {
            let set = issuer.jwks(at(now));
            set["keys"].as_array().expect("keys").len()
        };
        assert_eq!((ids(last), ids(last + 1)), (2, 1));
    }
    let written = fs::read_to_string(folder.path().join("issuer.json")).expect("a file");
    let state: Value = serde_json::from_str(&written).expect("json");
    // Of the retired key, the public half alone.
    assert!(state["retired"][0]["jwk"].get("d").is_none());
    issuer.rotate(Rotation::Forced, at(NOW)).expect("rotated");
    for issuer in [&issuer, &open(folder.path()).expect("an issuer")] {
        assert!(issuer.key(&first, at(NOW)).is_none());
        assert!(issuer.key(&second, at(NOW)).is_none());
    }
    for _ in 0..40 {
        issuer.rotate(Rotation::Graceful, at(NOW)).expect("rotated");
    }
    assert_eq!(
        issuer.jwks(at(NOW))["keys"].as_array().expect("keys").len(),
        17
    );
}

#[test]
fn a_key_signs_for_a_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = open(folder.path()).expect("an issuer");
    let first = issuer.key_id();
    let day = NOW + KEY_LIFE.as_secs();
    assert_eq!(
        issuer.issue(&order(), at(day - 1)).expect("a token").key_id,
        first
    );
    let second = issuer.issue(&order(), at(day)).expect("a token").key_id;
    assert_ne!(second, first);
    assert!(issuer.key(&first, at(day)).is_some());
    assert_eq!(open(folder.path()).expect("an issuer").key_id(), second);
}

#[test]
fn it_does_not_sign_with_a_key_that_is_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = open(folder.path()).expect("an issuer");
    let first = issuer.key_id();
    fs::remove_dir_all(folder.path()).expect("removed");
    assert!(issuer.rotate(Rotation::Forced, at(NOW)).is_err());
    assert_eq!(issuer.key_id(), first);
    assert!(issuer.key(&first, at(NOW)).is_some());
}

#[test]
fn orders_are_checked_like_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = open(folder.path()).expect("an issuer");
    let refuse = |change: &dyn Fn(&mut Order)| {
        let mut order = order();
        change(&mut order);
        let refused = issuer.issue(&order, at(NOW));
        assert!(matches!(refused, Err(Error::Order(_))), "{order:?}");
    };
    refuse(&|order| order.subject.clear());
    refuse(&|order| order.subject = "a\nb".to_owned());
    refuse(&|order| order.client = "a".repeat(257));
    refuse(&|order| order.scopes.clear());
    refuse(&|order| order.scopes = vec!["a b".to_owned()]);
    refuse(&|order| order.scopes = vec!["a".to_owned(); 65]);
    refuse(&|order| order.tool = Some(String::new()));
    refuse(&|order| order.purpose = Some("a".repeat(513)));
    refuse(&|order| order.session_hash = Some("\u{7}".to_owned()));
    refuse(&|order| order.lifetime = Duration::ZERO);
    refuse(&|order| order.lifetime = LIFETIME_MAX + Duration::from_secs(1));
    let made = issuer.issue(&order(), at(NOW)).expect("a token");
    assert!(!format!("{made:?}").contains(made.token.expose().as_str()));
    let payload = made.token.expose().split('.').nth(1).expect("a part");
    let payload: Value =
        serde_json::from_slice(&from_base64url(payload).expect("base64url")).expect("json");
    assert_eq!(payload["exp"], json!(NOW + 300));
    assert!(payload.get("tool").is_none() && payload.get("args_digest").is_none());
}

#[test]
fn key_sets_are_believed_as_a_whole() {
    let pair = KeyPair::p256().expect("a key");
    let key = |changes: Value| {
        let mut jwk = pair.public().jwk().clone();
        let members = jwk.as_object_mut().expect("an object");
        members.extend(changes.as_object().expect("an object").clone());
        jwk
    };
    let say = |keys: Value| match Keys::parse(keys.to_string().as_bytes()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        say(json!({"keys": [key(json!({"kid": "a"}))], "other": 1})),
        ""
    );
    assert_eq!(
        say(json!({"keys": [key(json!({"kid": "a"})), {"kty": "RSA", "use": "enc"}]})),
        ""
    );
    expect!["not 1 to 64 keys"].assert_eq(&say(json!({"keys": []})));
    expect!["not 1 to 64 keys"].assert_eq(&say(json!({"keys": vec![key(json!({})); 65]})));
    expect!["not 1 to 64 keys"].assert_eq(&say(json!({"keys": [{"use": "enc"}]})));
    expect!["no JWK set: `keys` lacks or is no list of keys"].assert_eq(&say(json!([])));
    expect!["no JWK set: `keys` lacks or is no list of keys"].assert_eq(&say(json!({"keys": [1]})));
    expect!["key 2: its id was there before"].assert_eq(&say(
        json!({"keys": [key(json!({"kid": "a"})), key(json!({"kid": "a"}))]}),
    ));
    expect!["key 1: `kid` has another shape"]
        .assert_eq(&say(json!({"keys": [key(json!({"kid": 1}))]})));
    expect!["key 1: key: a private or secret key where a public one belongs"]
        .assert_eq(&say(json!({"keys": [key(json!({"d": "AAAA"}))]})));
    expect!["key 1: key: neither P-256 nor Ed25519 nor RSA"]
        .assert_eq(&say(json!({"keys": [key(json!({"crv": "P-384"}))]})));
    let twice = br#"{"keys":[],"keys":[]}"#;
    assert!(matches!(Keys::parse(twice), Err(jwks::Error::Json(_))));
    assert!(matches!(
        Keys::parse(&vec![b' '; 300_000]),
        Err(jwks::Error::Size)
    ));
    // A key without an id is found by its thumbprint.
    let keys = Keys::parse(json!({"keys": [key(json!({}))]}).to_string().as_bytes());
    let id = base64url(&pair.public().thumbprint());
    assert!(keys.expect("a set").get(&id).is_some());
}

#[test]
fn two_issuers_of_one_name_are_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.jwks");
    let pair = KeyPair::p256().expect("a key");
    fs::write(&file, json!({"keys": [pair.public().jwk()]}).to_string()).expect("written");
    let named = |issuer: &str| StaticIssuer {
        issuer: issuer.to_owned(),
        jwks: file.clone(),
    };
    let embedded = || Some(Arc::new(open(folder.path()).expect("an issuer")));
    assert!(Issuers::new(embedded(), vec![named("https://a")]).is_ok());
    let same = Issuers::new(embedded(), vec![named(ISSUER)]);
    assert!(matches!(same, Err(Error::Twice(_))));
    let same = Issuers::new(embedded(), vec![named("https://a"), named("https://a")]);
    assert!(matches!(same, Err(Error::Twice(_))));
    fs::remove_file(&file).expect("removed");
    let none = Issuers::new(embedded(), vec![named("https://a")]);
    assert!(matches!(none, Err(Error::Read { .. })));
}

#[test]
fn revocations_are_bounded_and_forgotten_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("revoked.json");
    let list: Vec<Value> = (0..REVOCATIONS_MAX - 1)
        .map(|number| json!({"kind": "token", "name": number.to_string(), "at": NOW}))
        .chain([json!({"kind": "key", "name": "bad", "at": 1})])
        .collect();
    let text = json!({"version": 1, "revoked": list}).to_string();
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let revoked = Revoked::open(&file).expect("a list");
    assert_eq!(revoked.len(), REVOCATIONS_MAX);
    let another = Target::Token("another".to_owned());
    assert!(matches!(
        revoked.revoke(&another, at(NOW)),
        Err(Error::Full)
    ));
    // What is there can be revoked again.
    let known = Target::Token("1".to_owned());
    assert!(revoked.revoke(&known, at(NOW)).is_ok());
    let later = at(NOW + KEPT.as_secs() + 1);
    revoked.revoke(&another, later).expect("room");
    let left: Vec<_> = Revoked::open(&file).expect("a list").all();
    let left: Vec<_> = left.iter().map(|one| one.target.clone()).collect();
    assert_eq!(left, [Target::Key("bad".to_owned()), another]);
}

#[test]
fn a_damaged_list_is_no_empty_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("revoked.json");
    for text in [
        "",
        "{}",
        "[]",
        r#"{"version":2,"revoked":[]}"#,
        r#"{"version":1,"revoked":[{}]}"#,
    ] {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        assert!(
            matches!(Revoked::open(&file), Err(Error::Damaged { .. })),
            "{text}"
        );
    }
}

#[test]
fn what_can_not_be_written_is_in_force_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let gone = folder.path().join("gone");
    let revoked = Revoked::open(&gone.join("revoked.json")).expect("a list");
    let target = Target::Subject("alice".to_owned());
    assert!(matches!(
        revoked.revoke(&target, at(NOW)),
        Err(Error::File(_))
    ));
    assert_eq!(revoked.all()[0].target, target);
    // A clock that was set back does not move a cut back.
    assert!(revoked.revoke(&target, at(NOW - 100)).is_err());
    assert_eq!(revoked.all()[0].at, NOW);
    assert!(matches!(
        revoked.revoke(&Target::Key(String::new()), at(NOW)),
        Err(Error::Order(_))
    ));
}
