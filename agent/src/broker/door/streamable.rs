//! MCP's Streamable HTTP: what the headers of a message must say beside its body, and answers that are
//! one object or, for a call that tells of its progress, a stream of events.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName},
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::{
    House,
    answer::{self, Refusal},
    challenge,
    http::{Asking, IDEMPOTENCY_KEY, NONCE, PROMPT_HASH, bare, hints, one, page, put, told_with},
    lines::METHOD_NOT_FOUND,
    mcp::{self, Asked, Era},
    page::{Page, event},
    rpc::{self, Id, Malformed, Message},
    running::{Call, Said},
};
use crate::{
    broker::{
        call::{Credentials, Door, Received},
        reason::{Reason, Refused},
    },
    json,
};

/// Events of a call that the connection has not taken yet.
const EVENTS_MAX: usize = 16;
/// The code of MCP for headers that say something else than the body.
const HEADER_MISMATCH: i64 = -32_020;

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What names a call that runs: process, token (its SHA-256) and the request's id. Only who has the
/// token can end a call, and only from the process that began it.
pub(super) type Key = (u32, i32, [u8; 32], Id);

/// Answers one message. `scope` is the tool that the address names, if it names one.
pub(super) async fn answer(asking: Asking, scope: Option<&str>) -> Response<Page> {
    asking.mcp(scope).await
}

impl Asking {
    async fn mcp(self, scope: Option<&str>) -> Response<Page> {
        let message = rpc::parse(&self.body, self.house.broker.frame_limits())
            .and_then(|mut value| {
                let shown = rpc::take_credentials(&mut value)?;
                if shown.token.is_some() || shown.proof.is_some() {
                    let detail = "credentials in the body of HTTP";
                    return Err(Refused::because(Reason::RequestMalformed, detail));
                }
                Ok(value)
            })
            .map_err(|refused| Malformed { id: None, refused })
            .and_then(rpc::read);
        match message {
            Ok(Message::Request { id, method, params }) => {
                match self.request(&id, &method, params, scope).await {
                    Ok(response) => response,
                    Err(refusal) => {
                        self.house
                            .broker
                            .turned_away(self.peer, &refusal.reason.into());
                        refused_with(&self.house, &refusal, &refusal.error(Some(&id)))
                    }
                }
            }
            Ok(Message::Notification { method, params }) => {
                if let Some(id) = mcp::cancelled(&method, &params)
                    && let Ok(credentials) = self.credentials()
                {
                    self.house.running.cancel(&self.key(&credentials, id));
                }
                bare(StatusCode::ACCEPTED)
            }
            Ok(Message::Response) => bare(StatusCode::ACCEPTED),
            Err(Malformed { id, refused }) => {
                self.house.broker.turned_away(self.peer, &refused);
                let refusal = Refusal::from(&refused);
                refused_with(&self.house, &refusal, &refusal.error(id.as_ref()))
            }
        }
    }

    fn key(&self, credentials: &Credentials, id: Id) -> Key {
        let token = credentials.token.as_deref().unwrap_or_default();
        (
            self.peer.uid,
            self.peer.pid,
            json::sha256(token.as_bytes()),
            id,
        )
    }

    async fn request(
        &self,
        id: &Id,
        method: &str,
        params: Map<String, Value>,
        scope: Option<&str>,
    ) -> Result<Response<Page>, Refusal> {
        let era = Era::of(method, &params)?;
        let house = &self.house;
        if let Some(mismatch) = self.mismatch(era, method, &params)? {
            house
                .broker
                .turned_away(self.peer, &Reason::RequestMalformed.into());
            let message = format!("header mismatch: {mismatch}");
            let told = rpc::error(Some(id), HEADER_MISMATCH, &message, None);
            return Ok(told_with(house, StatusCode::BAD_REQUEST, &told));
        }
        Ok(match mcp::read(method, params, era, scope)? {
            Asked::Answer(result) => {
                house.give(self.peer).await;
                let told = rpc::result(id, &era.complete(result));
                told_with(house, StatusCode::OK, &told)
            }
            Asked::Unknown => {
                house.give(self.peer).await;
                let status = match era {
                    Era::Legacy => StatusCode::OK,
                    Era::Modern => StatusCode::NOT_FOUND,
                };
                let told = rpc::error(Some(id), METHOD_NOT_FOUND, "no such method", None);
                told_with(house, status, &told)
            }
            Asked::List { after } => {
                let credentials = self
                    .credentials()
                    .map_err(|refused| Refusal::from(&refused))?;
                let digest = json::sha256(&self.body);
                let listed = house
                    .broker
                    .list(self.peer, credentials, digest, scope)
                    .await;
                match listed {
                    Ok(verbs) => {
                        let bytes_max = house.broker.frame_limits().bytes_out / 2;
                        let listed = mcp::listed(verbs, era, scope, after.as_deref(), bytes_max);
                        told_with(house, StatusCode::OK, &rpc::result(id, &listed))
                    }
                    Err(refused) => {
                        let refusal = Refusal::from(&refused);
                        refused_with(house, &refusal, &refusal.error(Some(id)))
                    }
                }
            }
            Asked::Call(call) => {
                let call = self
                    .prepare(id, call)
                    .map_err(|refused| Refusal::from(&refused))?;
                self.follow(id, era, call).await
            }
        })
    }

    /// What a header says otherwise than the body, if one does.
    fn mismatch(
        &self,
        era: Era,
        method: &str,
        params: &Map<String, Value>,
    ) -> Result<Option<&'static str>, Refusal> {
        let header =
            |name: &HeaderName| one(&self.headers, name).map_err(|refused| Refusal::from(&refused));
        let version = header(&VERSION)?;
        if era == Era::Legacy {
            return match version {
                // The body of the newer revision lacks what it must have.
                Some(mcp::MODERN) => Err(Reason::RequestMalformed.into()),
                Some(version) if !mcp::LEGACY.contains(&version) => Err(mcp::unsupported(version)),
                _ => Ok(None),
            };
        }
        if version != Some(mcp::MODERN) {
            return Ok(Some("MCP-Protocol-Version"));
        }
        if header(&METHOD)? != Some(method) {
            return Ok(Some("Mcp-Method"));
        }
        let name = params.get("name").and_then(Value::as_str);
        if method == "tools/call" && header(&NAME)?.and_then(decoded).as_deref() != name {
            return Ok(Some("Mcp-Name"));
        }
        Ok(None)
    }

    /// Begins a call.
    fn prepare(&self, id: &Id, asked: mcp::Call) -> Result<Begun, Refused> {
        let credentials = self.credentials()?;
        let idempotency_key = self.either(&IDEMPOTENCY_KEY, asked.idempotency_key)?;
        let prompt_hash = self.either(&PROMPT_HASH, asked.prompt_hash)?;
        let token = asked
            .progress_token
            .filter(|_| accepts_events(&self.headers));
        let wants_progress = token.is_some();
        let (peer, body_digest) = (self.peer, json::sha256(&self.body));
        let key = self.key(&credentials, id.clone());
        let house = &self.house;
        let call = house
            .running
            .begin(key, &house.broker, |cancelled, progress| Received {
                door: Door::Http,
                peer,
                credentials,
                tool: asked.tool,
                verb: asked.verb,
                arguments: asked.arguments,
                body_digest,
                idempotency_key,
                prompt_hash,
                progress: wants_progress.then_some(progress),
                cancelled,
            });
        Ok((call, token))
    }

    /// Waits for a call. Only when it tells of its progress is the answer a stream: until then the
    /// status is open, and a refusal has one of its own.
    async fn follow(&self, id: &Id, era: Era, (mut call, token): Begun) -> Response<Page> {
        loop {
            match (call.next().await, &token) {
                (Said::Reply(reply), _) => {
                    return match Refusal::of(reply) {
                        Ok(done) => {
                            let told = answer::done(id, era, done, None);
                            told_with(&self.house, StatusCode::OK, &told)
                        }
                        Err(refusal) => {
                            let told = refusal.answer(id, era);
                            refused_with(&self.house, &refusal, &told)
                        }
                    };
                }
                (Said::Progress(said), Some(token)) => {
                    if let Some(first) = answer::progress(token, &said) {
                        let (id, token) = (id.clone(), token.clone());
                        return stream(&self.house, id, era, call, token, &first);
                    }
                }
                (Said::Progress(_), None) => {}
            }
        }
    }
}

/// A call that runs, and the token of its progress.
type Begun = (Call<Key>, Option<Value>);

/// The answer as a stream of events. When the caller goes away, so does the call.
fn stream(
    house: &House,
    id: Id,
    era: Era,
    mut call: Call<Key>,
    token: Value,
    first: &Value,
) -> Response<Page> {
    let (events, page_events) = mpsc::channel(EVENTS_MAX);
    let first = event(first);
    tokio::spawn(async move {
        let mut next = Some(first);
        loop {
            if let Some(event) = next.take()
                && events.send(event).await.is_err()
            {
                return;
            }
            let said = tokio::select! {
                () = events.closed() => return,
                said = call.next() => said,
            };
            match said {
                Said::Progress(said) => next = answer::progress(&token, &said).as_ref().map(event),
                Said::Reply(reply) => {
                    let told = match Refusal::of(reply) {
                        Ok(done) => answer::done(&id, era, done, None),
                        Err(refusal) => refusal.answer(&id, era),
                    };
                    drop(events.send(event(&told)).await);
                    return;
                }
            }
        }
    });
    let mut response = page(
        StatusCode::OK,
        "text/event-stream",
        Page::Events(page_events),
    );
    put(&mut response, &NONCE, &house.broker.nonce());
    put(
        &mut response,
        &HeaderName::from_static("x-accel-buffering"),
        "no",
    );
    response
}

/// The text that a header of MCP carries, which may be wrapped in Base64.
fn decoded(value: &str) -> Option<String> {
    let wrapped = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match wrapped {
        None => Some(value.to_owned()),
        Some(wrapped) => String::from_utf8(STANDARD.decode(wrapped).ok()?).ok(),
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|kinds| {
        kinds
            .to_str()
            .is_ok_and(|kinds| kinds.contains("text/event-stream"))
    })
}

/// A refusal. What the model can do something about is a success of HTTP.
pub(super) fn refused_with(house: &House, refusal: &Refusal, value: &Value) -> Response<Page> {
    let is_result = value.get("result").is_some();
    let status = if is_result {
        StatusCode::OK
    } else {
        challenge::status(refusal.reason)
    };
    let mut response = told_with(house, status, value);
    hints(&mut response, refusal);
    response
}
