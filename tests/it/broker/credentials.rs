//! Every credential that is not good, and arguments that do not fit, at a running agent: each with its
//! code, the broker's own sentence, a record and a count, and nothing of what was shown.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agent::{
    broker::{
        jose::{KeyPair, base64url},
        proof::BODY_CLAIM,
        reason::Reason,
    },
    json,
};
use lab::{agent::METRICS, binary::Scratch, metrics};
use serde_json::{Map, Value, json};

use super::{
    Scene,
    caller::{Answer, Caller, body},
};

const ISSUER: &str = "https://login.example";
const RESOURCE: &str = "https://it.example/stockade";
const KEY: &str = "key-1";
/// Stands in what is shown, and in no answer and no label.
const SECRET: &str = "swordfish";
/// A nonce is good for a minute at least.
const NONCE_LIFE: Duration = Duration::from_secs(30);

/// An issuer that the agent believes, a holder, and a caller's connection.
struct Forge {
    scene: Scene,
    _keys: Scratch,
    issuer: KeyPair,
    holder: KeyPair,
    line: Caller,
    /// Since when the line's nonce is known.
    since: Cell<Instant>,
    body: String,
}

impl Forge {
    fn new() -> Self {
        let keys = Scratch::new().expect("a folder");
        let issuer = KeyPair::ed25519().expect("a key");
        let mut key = issuer.public().jwk().clone();
        key["kid"] = KEY.into();
        let set = json!({ "keys": [key] }).to_string();
        let set = keys.write("keys.jwks", &set).expect("a file");
        let scene = Scene::invoice_configured(|_| {
            format!(
                "[broker]\nresource = \"{RESOURCE}\"\n[[broker.issuer]]\nissuer = \"{ISSUER}\"\njwks = \"{}\"\n",
                set.display()
            )
        });
        let line = scene.caller("alice", &["invoice:read"]);
        Self {
            scene,
            _keys: keys,
            issuer,
            holder: KeyPair::p256().expect("a key"),
            line,
            since: Cell::new(Instant::now()),
            body: body("invoice", "read", json!({"id": "INV-0A1B2C3D"}), None),
        }
    }

    fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": ISSUER,
            "aud": RESOURCE,
            "sub": SECRET,
            "client_id": SECRET,
            "iat": now - 1,
            "exp": now + 240,
            "jti": format!("{SECRET}-1"),
            "scope": "invoice:read",
            "purpose": SECRET,
            "cnf": {"jkt": base64url(&self.holder.public().thumbprint())},
        })
    }

    /// A token with these claims put over the good ones; null takes one away.
    fn token(&self, other: &Value) -> String {
        let header = json!({"typ": "at+jwt", "kid": KEY});
        signed(&self.issuer, &header, &over(self.claims(), other))
    }

    /// The same with a header that its key would not make.
    fn with_header(&self, other: &Value) -> String {
        let header = json!({"typ": "at+jwt", "kid": KEY, "alg": "EdDSA"});
        let header = json::canonical(&over(header, other));
        let claims = json::canonical(&self.claims());
        let signature = base64url(&[7; 64]);
        format!("{}.{}.{signature}", base64url(&header), base64url(&claims))
    }

    /// A proof for a token, by the holder, with these claims put over the good ones.
    fn proof(&self, token: &str, other: &Value) -> String {
        self.proof_by(&self.holder, token, other)
    }

    /// The same, signed by another key than the one that it shows.
    fn proof_by(&self, signer: &KeyPair, token: &str, other: &Value) -> String {
        if self.since.get().elapsed() > NONCE_LIFE {
            self.line.renew_nonce();
            self.since.set(Instant::now());
        }
        let own = format!("{token}{other}");
        let claims = json!({
            "jti": format!("{SECRET}-{}", base64url(&json::sha256(own.as_bytes()))),
            "htm": "POST",
            "htu": RESOURCE,
            "iat": now(),
            "ath": base64url(&json::sha256(token.as_bytes())),
            "nonce": self.line.nonce(),
            BODY_CLAIM: base64url(&json::sha256(self.body.as_bytes())),
        });
        let header = json!({"typ": "dpop+jwt", "jwk": self.holder.public().jwk()});
        signed(signer, &header, &over(claims, other))
    }

    fn shows(&self, token: &str, proof: &str) -> Answer {
        self.line.send_as(token, &self.body, proof)
    }

    /// What each token is refused with.
    #[rustfmt::skip]
    fn tokens(&self) -> Vec<(&'static str, String)> {
        let now = now();
        let other = KeyPair::ed25519().expect("a key");
        let stranger = base64url(&other.public().thumbprint());
        let digest = base64url(&json::sha256(SECRET.as_bytes()));
        let header = json!({"typ": "at+jwt", "kid": KEY});
        vec![
            ("token_tool", self.token(&json!({"tool": "invoice-mcp"}))),
            ("unknown_or_forbidden", self.token(&json!({"scope": "invoice:create"}))),
            ("token_audience", self.token(&json!({"aud": "https://swordfish.example"}))),
            ("proof_key", self.token(&json!({"cnf": {"jkt": stranger}}))),
            ("token_arguments", self.token(&json!({"args_digest": digest}))),
            ("token_expired", self.token(&json!({"iat": now - 200, "exp": now - 2}))),
            ("token_not_yet", self.token(&json!({"iat": now + 900, "exp": now + 1_000}))),
            ("token_lifetime", self.token(&json!({"exp": now + 3_600}))),
            ("token_claims", self.token(&json!({"jti": null}))),
            ("token_claims", self.token(&json!({"cnf": null}))),
            ("token_issuer", self.token(&json!({"iss": "https://swordfish.example"}))),
            ("token_signature", signed(&other, &header, &self.claims())),
            ("token_algorithm", self.with_header(&json!({"alg": "none"}))),
            ("token_algorithm", self.with_header(&json!({"alg": "HS256"}))),
            ("token_algorithm", self.with_header(&json!({"jwk": other.public().jwk()}))),
            ("token_algorithm", self.with_header(&json!({"jku": "https://swordfish.example"}))),
            ("token_algorithm", self.with_header(&json!({"typ": "JWT"}))),
            ("token_key", self.with_header(&json!({"kid": SECRET}))),
            ("token_malformed", format!("{SECRET}.{SECRET}")),
        ]
    }

    /// What each proof for a good token is refused with.
    #[rustfmt::skip]
    fn proofs(&self, token: &str) -> Vec<(&'static str, String)> {
        let other = KeyPair::p256().expect("a key");
        let digest = base64url(&json::sha256(SECRET.as_bytes()));
        vec![
            ("proof_target", self.proof(token, &json!({"htu": "https://swordfish.example"}))),
            ("proof_target", self.proof(token, &json!({"htm": "GET"}))),
            ("proof_time", self.proof(token, &json!({"iat": now() - 600}))),
            ("proof_time", self.proof(token, &json!({"iat": now() + 600}))),
            ("proof_token", self.proof(token, &json!({"ath": digest}))),
            ("proof_body", self.proof(token, &json!({BODY_CLAIM: digest}))),
            ("proof_nonce", self.proof(token, &json!({"nonce": SECRET}))),
            ("proof_malformed", self.proof(token, &json!({"jti": null}))),
            ("proof_malformed", SECRET.to_owned()),
            ("proof_signature", self.proof_by(&other, token, &json!({}))),
        ]
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn over(mut good: Value, other: &Value) -> Value {
    for (key, value) in other.as_object().expect("an object") {
        if value.is_null() {
            good.as_object_mut().expect("an object").remove(key);
        } else {
            good[key] = value.clone();
        }
    }
    good
}

fn signed(key: &KeyPair, header: &Value, claims: &Value) -> String {
    let header: Map<String, Value> = header.as_object().expect("an object").clone();
    key.sign(header, claims).expect("it signs")
}

/// What was refused, and by which code it was counted and recorded before.
struct Told<'a> {
    scene: &'a Scene,
    expected: BTreeMap<String, u32>,
}

impl<'a> Told<'a> {
    fn of(scene: &'a Scene) -> Self {
        Self {
            scene,
            expected: BTreeMap::new(),
        }
    }

    /// The code, the sentence that goes with it, the record's number, and nothing of the input.
    fn refused(&mut self, code: &str, what: &str, answer: &Answer) {
        assert_eq!(answer.reason(), code, "{what}: {answer:?}");
        let reason = Reason::ALL.iter().find(|reason| reason.code() == code);
        let sentence = reason.expect("a code of the table").sentence();
        assert_eq!(answer.body["title"], sentence, "{what}: {answer:?}");
        assert!(answer.body["record"].is_u64(), "{what}: {answer:?}");
        assert!(
            !answer.body.to_string().contains(SECRET),
            "{what}: {answer:?}"
        );
        println!("{what} -> {} {code}", answer.status);
        *self.expected.entry(code.to_owned()).or_insert(0) += 1;
    }

    /// As many records and counts as there were refusals.
    fn are_told(&self) {
        let page = metrics::get(self.scene.lab.host(), METRICS, "/metrics").expect("metrics");
        let samples = metrics::parse(&page);
        for (code, count) in &self.expected {
            let recorded = self.scene.records(&["--outcome", code]).len();
            let recorded = u32::try_from(recorded).expect("few");
            // Whoever begins is told the nonce with a refusal; all others were asked for here.
            let all_are_ours = code != "proof_nonce";
            let fits = if all_are_ours {
                recorded == *count
            } else {
                recorded > *count
            };
            assert!(fits, "{code}: {count} expected, {recorded} recorded");
            let label = format!("outcome=\"{code}\"");
            let counted = metrics::sum(&samples, "stockade_calls_total", &[&label]);
            let counts = (counted - f64::from(recorded)).abs() < 0.1;
            assert!(counts, "{code}: {counted} counted, {recorded} recorded");
        }
        assert!(!page.contains(SECRET), "no label is a caller's word");
        let log = self.scene.agent.log();
        assert!(!log.contains("eyJ"), "no token in the log: {log}");
    }
}

#[test]
fn each_bad_credential_has_its_code_its_record_and_its_count() {
    let forge = Forge::new();
    let mut told = Told::of(&forge.scene);
    for (code, token) in forge.tokens() {
        let answer = forge.shows(&token, &forge.proof(&token, &json!({})));
        told.refused(code, "token", &answer);
    }
    let good = forge.token(&json!({}));
    for (code, proof) in forge.proofs(&good) {
        told.refused(code, "proof", &forge.shows(&good, &proof));
    }
    // The control: what differs in nothing is good, once.
    let proof = forge.proof(&good, &json!({}));
    let answer = forge.shows(&good, &proof);
    assert!(answer.is_done(), "{answer:?}\n{}", forge.scene.agent.log());
    told.refused("proof_replayed", "again", &forge.shows(&good, &proof));

    // Revoked by its id, then the key that signs here taken away.
    let id = format!("{SECRET}-1");
    forge.scene.said(["token", "revoke"], &["--id", &id]);
    let proof = forge.proof(&good, &json!({"jti": "after"}));
    told.refused("token_revoked", "revoked", &forge.shows(&good, &proof));
    let line = forge.scene.caller("alice", &["invoice:read"]);
    let sample = || json!({"id": "INV-0A1B2C3D"});
    assert!(line.call("invoice", "read", sample()).is_done());
    forge.scene.said(["token", "rotate"], &["--force"]);
    let answer = line.call("invoice", "read", sample());
    told.refused("token_key", "the key rotated away", &answer);
    told.are_told();
    forge.scene.end();
}

fn invoice(other: &Value) -> Value {
    let line = json!({"text": "One thing", "cents": 1200});
    let good = json!({"payee": "Example Ltd", "currency": "EUR", "lines": [line]});
    over(good, other)
}

#[test]
fn arguments_that_do_not_fit_are_refused_by_place_and_rule() {
    let scene = Scene::invoice();
    let mut told = Told::of(&scene);
    let alice = scene.caller("alice", &["invoice:create"]);
    let line = |text: Value, cents: Value| json!({"lines": [{"text": text, "cents": cents}]});
    let rows = [
        ("", json!({"other": SECRET})),
        ("", json!({SECRET: 1})),
        ("", json!({"payee": null})),
        ("/currency", json!({"currency": SECRET})),
        ("/payee", json!({"payee": SECRET.repeat(20)})),
        ("/payee", json!({"payee": {SECRET: [SECRET]}})),
        ("/lines/0/cents", line("One".into(), SECRET.into())),
        ("/lines/0/cents", line("One".into(), "1200".into())),
        (
            "/lines/0/cents",
            line("One".into(), 1_000_000_000_000_000_u64.into()),
        ),
        ("/lines/0/cents", line("One".into(), 0.5.into())),
        ("/lines/0/text", line(SECRET.repeat(30).into(), 1.into())),
        (
            "/lines/0",
            json!({"lines": [{"text": "One", "cents": 1, SECRET: 1}]}),
        ),
        ("/lines", json!({"lines": vec![SECRET; 21]})),
    ];
    for (number, (place, other)) in rows.iter().enumerate() {
        let key = format!("order-{number}");
        let answer = alice.call_once("invoice", "create", invoice(other), Some(&key));
        let places = answer.body["places"].as_array().expect("places").clone();
        let found = places.iter().any(|found| found["at"] == *place);
        assert!(found, "{place}: {answer:?}");
        told.refused("arguments_refused", place, &answer);
    }
    // What was refused has used no key up; and a key is its caller's own.
    let first = alice.call_once("invoice", "create", invoice(&json!({})), Some("order-0"));
    assert!(first.is_done(), "{first:?}\n{}", scene.agent.log());
    let bob = scene.caller("bob", &["invoice:create"]);
    let other = invoice(&json!({"payee": "Another Ltd"}));
    let second = bob.call_once("invoice", "create", other.clone(), Some("order-0"));
    assert!(second.is_done(), "{second:?}");
    assert_eq!(second.body["replayed"], false, "{second:?}");
    let conflict = alice.call_once("invoice", "create", other, Some("order-0"));
    told.refused("idempotency_conflict", "another call", &conflict);
    told.are_told();
    scene.end();
}
