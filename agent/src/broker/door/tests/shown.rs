//! What a caller shows, through each door.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Door, behind::RESOURCE, code, reason};
use crate::{
    broker::{jose::Algorithm, proof::Signer},
    json,
};

pub(super) struct Holder {
    signer: Signer,
    token: String,
}

impl Holder {
    pub(super) fn of(door: &Door) -> Self {
        let signer = Signer::generate(Algorithm::EdDsa).expect("a key");
        let token = door.behind.token(signer.thumbprint());
        Self { signer, token }
    }

    fn proof(&self, nonce: &str, body: &[u8; 32]) -> String {
        let now = SystemTime::now();
        let proof = self
            .signer
            .proof(RESOURCE, &self.token, Some(nonce), Some(body), now);
        proof.expect("a proof")
    }

    pub(super) fn headers(&self, nonce: &str, body: &str) -> String {
        let proof = self.proof(nonce, &json::sha256(body.as_bytes()));
        format!("Authorization: DPoP {}\r\nDPoP: {proof}\r\n", self.token)
    }

    /// A message with everything in `_meta`.
    pub(super) fn line(&self, nonce: &str, mut message: Value) -> String {
        let proof = self.proof(nonce, &json::digest(&message));
        let meta = message
            .pointer_mut("/params/_meta")
            .and_then(Value::as_object_mut);
        let meta = meta.expect("a place for it");
        meta.insert(
            "stockade/authorization".to_owned(),
            format!("DPoP {}", self.token).into(),
        );
        meta.insert("stockade/dpop".to_owned(), proof.into());
        message.to_string()
    }
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const CALL: &str = r#"{"tool":"invoice","verb":"read"}"#;

#[test]
fn http_takes_a_proof_once_and_for_its_body_only() {
    let door = Door::open();
    let holder = Holder::of(&door);
    let nonce = door.behind.broker.nonce();
    let headers = holder.headers(&nonce, LIST);
    let (status, head, answer) = door.post("/mcp", &headers, LIST);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer.pointer("/result/tools"), Some(&json!([])));
    assert!(head.contains("dpop-nonce: "), "{head}");
    let (status, head, answer) = door.post("/mcp", &headers, LIST);
    assert_eq!((status, reason(&answer)), (401, "proof_replayed"));
    assert!(
        head.contains("www-authenticate: dpop error=\"invalid_dpop_proof\""),
        "{head}"
    );
    let (status, _, answer) = door.post("/mcp", &holder.headers(&nonce, CALL), LIST);
    assert_eq!((status, reason(&answer)), (401, "proof_body"));
    let (status, _, answer) = door.post("/v1/calls", &holder.headers(&nonce, CALL), CALL);
    assert_eq!(
        (status, answer.get("reason")),
        (403, Some(&json!("unknown_or_forbidden")))
    );
}

#[test]
fn without_the_nonce_it_is_demanded() {
    let door = Door::open();
    let holder = Holder::of(&door);
    let (status, head, answer) = door.post("/mcp", &holder.headers("stale", LIST), LIST);
    assert_eq!((status, reason(&answer)), (401, "proof_nonce"));
    assert!(head.contains("error=\"use_dpop_nonce\""), "{head}");
    assert!(head.contains("dpop-nonce: "), "{head}");
    let (status, head, answer) = door.post("/mcp", "", LIST);
    assert_eq!((status, reason(&answer)), (401, "token_missing"));
    assert!(head.contains("www-authenticate: dpop algs="), "{head}");
}

#[test]
fn a_line_carries_them_in_its_meta() {
    let door = Door::open();
    let holder = Holder::of(&door);
    let nonce = door.behind.broker.nonce();
    let list =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": {} } });
    let line = holder.line(&nonce, list.clone());
    let answer = door.line(&line);
    assert_eq!(
        answer.pointer("/result/tools"),
        Some(&json!([])),
        "{answer}"
    );
    let answer = door.line(&line);
    assert_eq!(reason(&answer), "proof_replayed");
    let answer = door.line(&holder.line("stale", list));
    assert_eq!(reason(&answer), "proof_nonce");
    let nonce = answer.pointer("/error/data/nonce").and_then(Value::as_str);
    let nonce = nonce.expect("a nonce to come again with");
    let call = json!({
        "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "invoice.read", "arguments": { "id": 7 }, "_meta": {} },
    });
    let answer = door.line(&holder.line(nonce, call.clone()));
    assert_eq!(reason(&answer), "unknown_or_forbidden", "{answer}");
    assert!(code(&answer) > 1_000, "{answer}");
    // One byte of the arguments changed on the way.
    let changed = holder.line(nonce, call).replace("{\"id\":7}", "{\"id\":8}");
    assert_eq!(reason(&door.line(&changed)), "proof_body");
}

#[test]
fn of_parallel_equal_requests_one_is_carried_out() {
    let door = Door::open();
    let holder = Holder::of(&door);
    let headers = holder.headers(&door.behind.broker.nonce(), LIST);
    let carried = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| door.post("/mcp", &headers, LIST).0 == 200);
        let asked: Vec<_> = (0..32).map(|_| ask()).collect();
        let carried = asked.into_iter().map(|one| one.join().expect("an answer"));
        carried.filter(|carried| *carried).count()
    });
    assert_eq!(carried, 1);
}
