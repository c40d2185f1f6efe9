//! HTTP/1.1 over the socket: which address asks for what, what a request must carry, and MCP's
//! Streamable HTTP. One request, one answer; no session is kept and none is handed out.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};

use super::{
    House,
    answer::{self, Refusal},
    challenge::{self, challenge},
    lines::METHOD_NOT_FOUND,
    mcp::{self, Asked, Era},
    openapi,
    page::{Page, event},
    plain, rpc,
    rpc::{Id, Malformed, Message},
    running::{Call, Said},
    turned,
};
use crate::{
    audit::Caller,
    broker::{
        call::{Credentials, Door, Received},
        reason::{Reason, Refused},
    },
    json,
    policy::compiled::ToolName,
};

/// Bytes of a request's head: a token, a proof, and room.
const HEAD_BYTES_MAX: usize = 64 * 1_024;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// Events of a call that the connection has not taken yet.
const EVENTS_MAX: usize = 16;
/// The code of MCP for headers that say something else than the body.
const HEADER_MISMATCH: i64 = -32_020;

pub(super) const PROOF: HeaderName = HeaderName::from_static("dpop");
pub(super) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const PROMPT_HASH: HeaderName = HeaderName::from_static("stockade-prompt-hash");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What names a call that runs: process, token (its SHA-256) and the request's id. Only who has the
/// token can end a call, and only from the process that began it.
pub(super) type Key = (u32, i32, [u8; 32], Id);

/// A request with its body.
pub(super) struct Asking {
    pub(super) house: Arc<House>,
    pub(super) peer: Caller,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(house: &Arc<House>, peer: Caller, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let house = Arc::clone(house);
        async move { Ok::<_, Infallible>(answer(house, peer, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(house.settings.times.frame)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = house.stopping.clone();
    let served = tokio::select! {
        () = stopping.wait() => return,
        served = served => served,
    };
    match served {
        Ok(()) => {}
        Err(error) if error.is_parse() => {
            let refused = Refused::because(Reason::RequestMalformed, error);
            turned::away(&house.broker, peer, &refused);
        }
        Err(error) => tracing::debug!(%error, "broker connection ended early"),
    }
}

/// What an address asks for.
enum Place<'a> {
    Mcp(Option<&'a str>),
    Calls,
    OpenApi,
    Nothing,
}

fn place(path: &str) -> Place<'_> {
    match path {
        "/mcp" => Place::Mcp(None),
        "/v1/calls" => Place::Calls,
        "/v1/openapi.json" => Place::OpenApi,
        path => match path.strip_prefix("/mcp/") {
            Some(tool) if ToolName::parse(tool).is_ok() => Place::Mcp(Some(tool)),
            _ => Place::Nothing,
        },
    }
}

async fn answer(house: Arc<House>, peer: Caller, request: Request<Incoming>) -> Response<Page> {
    let (head, body) = request.into_parts();
    let place = place(head.uri.path());
    let method = match place {
        Place::Nothing => return bare(StatusCode::NOT_FOUND),
        Place::OpenApi => Method::GET,
        Place::Mcp(_) | Place::Calls => Method::POST,
    };
    if head.method != method {
        let mut refused = bare(StatusCode::METHOD_NOT_ALLOWED);
        let allow = HeaderValue::from_str(method.as_str()).ok();
        allow.map(|allow| refused.headers_mut().insert(header::ALLOW, allow));
        return refused;
    }
    // A browser sends it, and no browser has any business here (MCP: DNS rebinding).
    if head.headers.contains_key(header::ORIGIN) {
        let refused = Refused::because(Reason::PeerRefused, "a request with an origin");
        turned::away(&house.broker, peer, &refused);
        return bare(StatusCode::FORBIDDEN);
    }
    if let Place::OpenApi = place {
        return page(
            StatusCode::OK,
            "application/json",
            Page::json(&openapi::document()),
        );
    }
    if !is_json(&head.headers) {
        return bare(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let body = match whole(&house, body).await {
        Ok(body) => body,
        Err(refused) => {
            turned::away(&house.broker, peer, &refused);
            let refusal = Refusal::from(&refused);
            return match place {
                Place::Calls => plain::problem(&house, &refusal),
                _ => refused_with(&house, &refusal, &refusal.error(None)),
            };
        }
    };
    let asking = Asking {
        house,
        peer,
        headers: head.headers,
        body,
    };
    match place {
        Place::Calls => plain::answer(asking).await,
        Place::Mcp(scope) => asking.mcp(scope).await,
        Place::OpenApi | Place::Nothing => bare(StatusCode::NOT_FOUND),
    }
}

/// The body, as long as it may be and in the time it may take.
async fn whole(house: &House, body: Incoming) -> Result<Bytes, Refused> {
    let bytes_max = house.broker.frame_limits().bytes_in;
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |bytes| bytes > bytes_max) {
        return Err(Reason::FrameTooLarge.into());
    }
    let collected = timeout(
        house.settings.times.frame,
        Limited::new(body, bytes_max).collect(),
    );
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reason::FrameTooLarge.into()),
        Ok(Err(error)) => Err(Refused::because(Reason::RequestMalformed, error)),
        Err(_) => Err(Reason::FrameTooSlow.into()),
    }
}

impl Asking {
    /// What the caller shows, from the places that HTTP has for it.
    pub(super) fn credentials(&self) -> Result<Credentials, Refused> {
        let authorization = one(&self.headers, &header::AUTHORIZATION)?;
        Ok(Credentials {
            token: authorization.map(rpc::token).transpose()?,
            proof: one(&self.headers, &PROOF)?.map(str::to_owned),
        })
    }

    /// A text that may stand in a header or in the body; both must say the same.
    pub(super) fn either(
        &self,
        name: &HeaderName,
        in_body: Option<String>,
    ) -> Result<Option<String>, Refused> {
        match (one(&self.headers, name)?, in_body) {
            (Some(header), Some(body)) if header != body => Err(Refused::because(
                Reason::RequestMalformed,
                "header and body say something else",
            )),
            (header, body) => Ok(body.or_else(|| header.map(str::to_owned))),
        }
    }

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
                        turned::away(&self.house.broker, self.peer, &refusal.reason.into());
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
                turned::away(&self.house.broker, self.peer, &refused);
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
            turned::away(&house.broker, self.peer, &Reason::RequestMalformed.into());
            let message = format!("header mismatch: {mismatch}");
            let told = rpc::error(Some(id), HEADER_MISMATCH, &message, None);
            return Ok(told_with(house, StatusCode::BAD_REQUEST, &told));
        }
        Ok(match mcp::read(method, params, era, scope)? {
            Asked::Answer(result) => {
                let told = rpc::result(id, &era.complete(result));
                told_with(house, StatusCode::OK, &told)
            }
            Asked::Unknown => {
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

/// The one value of a header; more than one is nobody's word.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Refused::because(
            Reason::RequestMalformed,
            format!("header {name} twice"),
        ));
    }
    first
        .map(|value| value.to_str())
        .transpose()
        .map_err(|_not_ascii| {
            Refused::because(
                Reason::RequestMalformed,
                format!("header {name} is no text"),
            )
        })
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

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|kinds| {
        kinds
            .to_str()
            .is_ok_and(|kinds| kinds.contains("text/event-stream"))
    })
}

/// A JSON answer with the nonce of the next proof.
pub(super) fn told_with(house: &House, status: StatusCode, value: &Value) -> Response<Page> {
    let mut response = page(status, "application/json", Page::json(value));
    put(&mut response, &NONCE, &house.broker.nonce());
    response
}

/// A refusal. What the model can do something about is a success of HTTP.
fn refused_with(house: &House, refusal: &Refusal, value: &Value) -> Response<Page> {
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

/// The headers that a refusal has: what to show, when to come again.
pub(super) fn hints(response: &mut Response<Page>, refusal: &Refusal) {
    let asks = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status());
    if let Some(challenge) = challenge(refusal.reason).filter(|_| asks) {
        put(response, &header::WWW_AUTHENTICATE, &challenge);
    }
    if let Some(seconds) = refusal.retry_after {
        put(response, &header::RETRY_AFTER, &seconds.to_string());
    }
    if let Some(nonce) = &refusal.nonce {
        put(response, &NONCE, nonce);
    }
}

/// A page of one kind, for nobody's cache.
pub(super) fn page(status: StatusCode, kind: &'static str, body: Page) -> Response<Page> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    put(&mut response, &header::CONTENT_TYPE, kind);
    put(&mut response, &header::CACHE_CONTROL, "no-store");
    response
}

fn bare(status: StatusCode) -> Response<Page> {
    let mut response = Response::new(Page::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header; an empty value, or one that is none, is left out.
fn put(response: &mut Response<Page>, name: &HeaderName, value: &str) {
    if let Some(value) = HeaderValue::from_str(value)
        .ok()
        .filter(|value| !value.is_empty())
    {
        response.headers_mut().insert(name, value);
    }
}
