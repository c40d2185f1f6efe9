//! HTTP/1.1 over the socket: which address asks for what, what a request must carry, and what every
//! answer has. One request, one answer; no session is kept and none is handed out.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    House, answer::Refusal, challenge::challenge, openapi, page::Page, plain, rpc, streamable,
    streamable::refused_with,
};
use crate::{
    audit::Caller,
    broker::{
        call::Credentials,
        reason::{Reason, Refused},
    },
    policy::compiled::ToolName,
};

/// Bytes of a request's head: a token, a proof, and room.
const HEAD_BYTES_MAX: usize = 64 * 1_024;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;

pub(super) const PROOF: HeaderName = HeaderName::from_static("dpop");
pub(super) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const PROMPT_HASH: HeaderName = HeaderName::from_static("stockade-prompt-hash");

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
    // Whether a head came whole: a connection that ends later was only kept for nothing.
    let was_asked = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        was_asked.store(true, Ordering::Relaxed);
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
            house.broker.turned_away(peer, &refused);
        }
        Err(error) if error.is_timeout() && !was_asked.load(Ordering::Relaxed) => {
            house.broker.turned_away(peer, &Reason::FrameTooSlow.into());
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

/// Statuses of requests that no known caller needs to make.
const REFUSALS: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::REQUEST_TIMEOUT,
];

/// Statuses that cost little and are no caller's business either.
const NOTHINGS: [StatusCode; 4] = [
    // A notification, which nobody has to show anything for.
    StatusCode::ACCEPTED,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
];

async fn answer(house: Arc<House>, peer: Caller, request: Request<Incoming>) -> Response<Page> {
    let response = answered(Arc::clone(&house), peer, request).await;
    // One of those has a status that known callers get as well.
    let reason = response.extensions().get::<Reason>();
    let is_before_known = reason.is_some_and(|reason| reason.is_before_known());
    if is_before_known || REFUSALS.contains(&response.status()) {
        house.hold(peer).await;
    } else if NOTHINGS.contains(&response.status()) {
        house.give(peer).await;
    }
    response
}

async fn answered(house: Arc<House>, peer: Caller, request: Request<Incoming>) -> Response<Page> {
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
        house.broker.turned_away(peer, &refused);
        house.hold(peer).await;
        return bare(StatusCode::FORBIDDEN);
    }
    if let Place::OpenApi = place {
        house.give(peer).await;
        return page(
            StatusCode::OK,
            "application/json",
            Page::text(openapi::text()),
        );
    }
    if !is_json(&head.headers) {
        return bare(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let body = match whole(&house, body).await {
        Ok(body) => body,
        Err(refused) => {
            house.broker.turned_away(peer, &refused);
            let refusal = Refusal::from(&refused);
            return match place {
                Place::Calls => plain::problem(&house, &refusal),
                Place::Mcp(_) | Place::OpenApi | Place::Nothing => {
                    refused_with(&house, &refusal, &refusal.error(None))
                }
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
        Place::Mcp(scope) => streamable::answer(asking, scope).await,
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
}

/// The one value of a header; more than one is nobody's word.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Refused> {
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

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A JSON answer with the nonce of the next proof.
pub(super) fn told_with(house: &House, status: StatusCode, value: &Value) -> Response<Page> {
    let mut response = page(status, "application/json", Page::json(value));
    put(&mut response, &NONCE, &house.broker.nonce());
    response
}

/// The headers that a refusal has: what to show, when to come again. And why it is one, for whoever
/// gives the answer.
pub(super) fn hints(response: &mut Response<Page>, refusal: &Refusal) {
    response.extensions_mut().insert(refusal.reason);
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

pub(super) fn bare(status: StatusCode) -> Response<Page> {
    let mut response = Response::new(Page::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header; an empty value, or one that is none, is left out.
pub(super) fn put(response: &mut Response<Page>, name: &HeaderName, value: &str) {
    if let Some(value) = HeaderValue::from_str(value)
        .ok()
        .filter(|value| !value.is_empty())
    {
        response.headers_mut().insert(name, value);
    }
}
