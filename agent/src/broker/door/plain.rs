//! The plain JSON face, for callers without MCP: `POST /v1/calls`, one object in, one out. Refusals
//! are problem documents (RFC 9457).

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    House,
    answer::Refusal,
    challenge,
    http::{Asking, IDEMPOTENCY_KEY, NONCE, PROMPT_HASH, hints, page, put, told_with},
    page::Page,
    rpc::{self, Id},
    running::Said,
};
use crate::{
    broker::{
        call::{Credentials, Done, Door, Received},
        reason::{Reason, Refused},
    },
    json,
};

const PROBLEM_TYPE: &str = "application/problem+json";

/// The body of a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawCall {
    tool: String,
    verb: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    idempotency_key: Option<String>,
    prompt_hash: Option<String>,
}

/// Answers one call.
pub(super) async fn answer(asking: Asking) -> Response<Page> {
    let house = &asking.house;
    let received = match read(&asking) {
        Ok(received) => received,
        Err(refused) => {
            house.broker.turned_away(asking.peer, &refused);
            return problem(house, &Refusal::from(&refused));
        }
    };
    let (call, credentials) = received;
    let body_digest = json::sha256(&asking.body);
    let peer = asking.peer;
    // Nobody names a plain call: its connection ends it. So the name is one that no request has.
    let key = (peer.uid, peer.pid, body_digest, Id::Text(String::new()));
    let mut begun = house
        .running
        .begin(key, &house.broker, |cancelled, _nobody| Received {
            door: Door::Plain,
            peer,
            credentials,
            tool: call.tool,
            verb: call.verb,
            arguments: Value::Object(call.arguments),
            body_digest,
            idempotency_key: call.idempotency_key,
            prompt_hash: call.prompt_hash,
            progress: None,
            cancelled,
        });
    let reply = loop {
        if let Said::Reply(reply) = begun.next().await {
            break reply;
        }
    };
    match Refusal::of(reply) {
        Ok(done) => told_with(house, StatusCode::OK, &result(done)),
        Err(refusal) => problem(house, &refusal),
    }
}

fn read(asking: &Asking) -> Result<(RawCall, Credentials), Refused> {
    let value = rpc::parse(&asking.body, asking.house.broker.frame_limits())?;
    // The parser's words would hold parts of the input.
    let mut call: RawCall = serde_json::from_value(value).map_err(|_words| {
        Refused::because(Reason::RequestMalformed, "no call of the plain face")
    })?;
    call.idempotency_key = asking.either(&IDEMPOTENCY_KEY, call.idempotency_key)?;
    call.prompt_hash = asking.either(&PROMPT_HASH, call.prompt_hash)?;
    Ok((call, asking.credentials()?))
}

fn result(done: Done) -> Value {
    let Done {
        content,
        structured,
        is_error,
        replayed,
        record,
        took,
    } = done;
    json!({
        "content": content,
        "structured": structured,
        "isError": is_error,
        "replayed": replayed,
        "record": record,
        "seconds": took.as_secs_f64(),
    })
}

/// A refusal of the plain face.
pub(super) fn problem(house: &House, refusal: &Refusal) -> Response<Page> {
    let status = challenge::status(refusal.reason);
    let mut document = refusal.facts();
    document.insert("type".to_owned(), "about:blank".into());
    document.insert("title".to_owned(), refusal.reason.sentence().into());
    document.insert("status".to_owned(), status.as_u16().into());
    let mut response = page(status, PROBLEM_TYPE, Page::json(&Value::Object(document)));
    put(&mut response, &NONCE, &house.broker.nonce());
    hints(&mut response, refusal);
    response
}
