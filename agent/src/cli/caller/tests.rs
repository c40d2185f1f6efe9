//! The caller against a door that is open.

use hyper::{HeaderMap, body::Bytes};
use serde_json::Value;

use super::{Caller, Post, Source, whole};
use crate::{
    broker::{door::tests::Door, jose::Algorithm, proof::Signer},
    secret::Secret,
};

const CALL: &str = r#"{"tool":"invoice","verb":"read","arguments":{}}"#;

fn signer() -> Signer {
    Signer::generate(Algorithm::Es256).expect("a key")
}

/// What the door says to a call: status and reason.
fn say(caller: &Caller) -> (u16, String) {
    let runtime = crate::cli::runtime().expect("a runtime");
    runtime.block_on(async {
        let post = Post {
            path: "/v1/calls",
            headers: HeaderMap::new(),
            body: Bytes::from_static(CALL.as_bytes()),
        };
        let response = caller.send(&post).await.expect("an answer");
        let status = response.status().as_u16();
        let body = whole(response).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("json");
        let reason = body
            .get("reason")
            .and_then(Value::as_str)
            .unwrap_or_default();
        (status, reason.to_owned())
    })
}

#[test]
fn a_demand_for_a_nonce_is_met_and_the_nonce_kept() {
    let door = Door::open();
    let signer = signer();
    let token = door.behind.token(signer.thumbprint());
    let source = Source::Given(Secret::new(token));
    let caller = Caller::new(door.path(), signer, source, None);
    // Token and proof were good: what is refused is a tool that is not there.
    let there_is_none = (403, "unknown_or_forbidden".to_owned());
    assert_eq!(say(&caller), there_is_none);
    assert!(caller.nonce.lock().expect("not poisoned").is_some());
    assert_eq!(
        say(&caller),
        there_is_none,
        "again, with a proof of its own"
    );
}

#[test]
fn a_token_is_no_use_with_another_key_or_for_another_resource() {
    let door = Door::open();
    let holder = signer();
    let token = || Source::Given(Secret::new(door.behind.token(holder.thumbprint())));
    let thief = Caller::new(door.path(), signer(), token(), None);
    assert_eq!(say(&thief), (401, "proof_key".to_owned()));
    let elsewhere = Some("https://other.example/broker".to_owned());
    let source = token();
    let caller = Caller::new(door.path(), holder, source, elsewhere);
    assert_eq!(say(&caller), (401, "proof_target".to_owned()));
}

#[test]
fn what_is_no_token_is_refused() {
    let door = Door::open();
    let source = Source::Given(Secret::new("a.b.c".to_owned()));
    let resource = Some("https://host.example/broker".to_owned());
    let caller = Caller::new(door.path(), signer(), source, resource);
    let (status, reason) = say(&caller);
    assert_eq!(status, 401);
    assert!(reason.starts_with("token_"), "{reason}");
}
