//! A caller of the plain face: its own HTTP, so that it can say what no library would.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use agent::{
    broker::{jose::Algorithm, proof::Signer},
    json,
};
use serde_json::{Value, json};

/// Who calls, with which token.
pub(super) struct Caller {
    socket: PathBuf,
    signer: Signer,
    token: String,
    resource: String,
    nonce: Mutex<String>,
}

/// What the broker said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

pub(super) fn signer() -> Signer {
    Signer::generate(Algorithm::Es256).expect("a key")
}

impl Caller {
    pub(super) fn new(socket: PathBuf, signer: Signer, token: String, resource: String) -> Self {
        let caller = Self {
            socket,
            signer,
            token,
            resource,
            nonce: Mutex::default(),
        };
        caller.learn_nonce();
        caller
    }

    /// The same caller with somebody else's token.
    pub(super) fn with_token_of(self, other: &Self) -> Self {
        let token = other.token.clone();
        Self { token, ..self }
    }

    /// A call with a fresh proof.
    pub(super) fn call(&self, tool: &str, verb: &str, arguments: Value) -> Answer {
        self.call_once(tool, verb, arguments, None)
    }

    /// A call with a fresh proof and an idempotency key.
    pub(super) fn call_once(
        &self,
        tool: &str,
        verb: &str,
        arguments: Value,
        key: Option<&str>,
    ) -> Answer {
        let body = body(tool, verb, arguments, key);
        self.send(&body, &self.proof(&body))
    }

    /// The nonce that proofs must carry.
    pub(super) fn nonce(&self) -> String {
        self.nonce.lock().expect("no panic").clone()
    }

    /// Its token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// A proof for this body.
    pub(super) fn proof(&self, body: &str) -> String {
        self.proof_of(body.as_bytes())
    }

    /// The same of any bytes.
    pub(super) fn proof_of(&self, body: &[u8]) -> String {
        let nonce = self.nonce.lock().expect("no panic").clone();
        self.signer
            .proof(
                &self.resource,
                &self.token,
                Some(&nonce),
                Some(&json::sha256(body)),
                SystemTime::now(),
            )
            .expect("a proof")
    }

    /// One request, as it is given.
    pub(super) fn send(&self, body: &str, proof: &str) -> Answer {
        self.send_as(&self.token, body, proof)
    }

    /// The same with another token.
    pub(super) fn send_as(&self, token: &str, body: &str, proof: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).expect("the broker listens");
        let request = request(token, body, proof);
        stream.write_all(&request).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.expect("a status"),
            body: serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")),
        }
    }

    /// The bytes of one request.
    pub(super) fn request(&self, body: &str, proof: &str) -> Vec<u8> {
        request(&self.token, body, proof)
    }

    /// Begins a request of MCP that takes a stream of events; what comes is the reader's matter.
    pub(super) fn begin(&self, message: &Value) -> UnixStream {
        let body = message.to_string();
        let mut stream = UnixStream::connect(&self.socket).expect("the broker listens");
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\
             Accept: application/json, text/event-stream\r\n\
             Authorization: DPoP {}\r\nDPoP: {}\r\n\r\n{body}",
            body.len(),
            self.token,
            self.proof(&body)
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        stream
    }

    /// Learns the nonce anew, before the one that it knows is too old.
    pub(super) fn renew_nonce(&self) {
        self.nonce.lock().expect("no panic").clear();
        self.learn_nonce();
    }

    fn learn_nonce(&self) {
        let body = body("none", "none", json!({}), None);
        let mut answer = self.send(&body, &self.proof(&body));
        for _ in 0..100 {
            // A key that is new is fetched within a pause, and a caller told so comes again.
            if answer.reason() != "token_key" || answer.body["retryAfter"].is_null() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
            answer = self.send(&body, &self.proof(&body));
        }
        assert_eq!(answer.reason(), "proof_nonce", "{answer:?}");
        let nonce = answer.body["nonce"].as_str().expect("a nonce");
        nonce.clone_into(&mut self.nonce.lock().expect("no panic"));
    }
}

fn request(token: &str, body: &str, proof: &str) -> Vec<u8> {
    let request = format!(
        "POST /v1/calls HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\
         Authorization: DPoP {token}\r\nDPoP: {proof}\r\n\r\n{body}",
        body.len(),
    );
    request.into_bytes()
}

/// The body of a call.
pub(super) fn body(tool: &str, verb: &str, arguments: Value, key: Option<&str>) -> String {
    let mut call = json!({"tool": tool, "verb": verb});
    call["arguments"] = arguments;
    if let Some(key) = key {
        call["idempotencyKey"] = key.into();
    }
    call.to_string()
}

impl Answer {
    /// The code of a refusal; empty for a result.
    pub(super) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    pub(super) fn is_done(&self) -> bool {
        self.status == 200 && self.body["isError"] == false
    }

    pub(super) fn structured(&self) -> &Value {
        &self.body["structured"]
    }
}
