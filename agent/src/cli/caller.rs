//! A caller of the broker: the command line's own client of the HTTP door. It holds the proof key, gets
//! the token, and adds a fresh proof to each request. What may be called is none of its business.

mod line;
mod token;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;

use super::{Failure, Target};
use crate::{broker::proof::Signer, exit::Code, json, secret::Secret};

pub(super) use token::Source;

/// Longest answer that is taken, bytes: the broker's own bound, and its envelope.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;

const PROOF: HeaderName = HeaderName::from_static("dpop");
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Which broker, with which token and key.
#[derive(Debug, Args)]
pub(super) struct Shown {
    #[command(flatten)]
    pub(super) target: Target,
    /// The broker's socket, where it is not that of the instance.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The proof key, as `token key` makes it.
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    #[command(flatten)]
    pub(super) token: token::Arguments,
    /// The broker's resource URI, where it is not the token's audience.
    #[arg(long, value_name = "URI")]
    pub(super) resource: Option<String>,
}

impl Shown {
    /// Where the broker listens.
    pub(super) fn socket(&self) -> PathBuf {
        let of_instance = || self.target.instance.broker_socket();
        self.socket.clone().unwrap_or_else(of_instance)
    }
}

/// The other end of the HTTP door.
pub(super) struct Caller {
    socket: PathBuf,
    signer: Signer,
    source: Source,
    resource: Option<String>,
    /// The one that the broker asked for last.
    nonce: Mutex<Option<String>>,
}

/// One request.
pub(super) struct Post<'a> {
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Caller {
    /// A caller that shows what `source` gives, with proofs of this key.
    pub(super) fn new(
        socket: PathBuf,
        signer: Signer,
        source: Source,
        resource: Option<String>,
    ) -> Self {
        Self {
            socket,
            signer,
            source,
            resource,
            nonce: Mutex::default(),
        }
    }

    /// The caller that options describe.
    pub(super) fn of(shown: Shown) -> Result<Self, Failure> {
        let socket = shown.socket();
        let Some(key) = &shown.key else {
            let message =
                "proof key: none is named\nhint: `stockade token key FILE` makes one; `--key FILE`";
            return Err(Failure::said(Code::Usage, message));
        };
        let signer = load(key)?;
        let source = Source::of(shown.token)?;
        Ok(Self::new(socket, signer, source, shown.resource))
    }

    /// Sends one request and waits for the head of its answer. A demand for another nonce, or for a
    /// newer token where there is one, is met once: the broker ran nothing before it said so.
    pub(super) async fn send(&self, post: &Post<'_>) -> Result<Response<Incoming>, Failure> {
        let response = self.try_once(post).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let wants_nonce = challenge(&response).is_some_and(|text| text.contains("use_dpop_nonce"));
        let wants_token = challenge(&response).is_some_and(|text| text.contains("invalid_token"));
        if wants_nonce || (wants_token && self.source.forget()) {
            return self.try_once(post).await;
        }
        Ok(response)
    }

    async fn try_once(&self, post: &Post<'_>) -> Result<Response<Incoming>, Failure> {
        let token = self.source.token().await?;
        let request = self.request(post, &token)?;
        drop(token);
        let stream = line::connected(&self.socket)
            .await
            .map_err(|error| unreachable(&self.socket, &error))?;
        let failed = |error: hyper::Error| {
            Failure::said(Code::TryAgain, format!("broker: no answer: {error}"))
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(async move {
            // Its failure is the request's too.
            drop(connection.await);
        });
        let response = sender.send_request(request).await.map_err(failed)?;
        let nonce = response.headers().get(NONCE);
        if let Some(nonce) = nonce.and_then(|nonce| nonce.to_str().ok()) {
            let mut known = self.nonce.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(nonce.to_owned());
        }
        Ok(response)
    }

    fn request(
        &self,
        post: &Post<'_>,
        token: &Secret<String>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let resource = match &self.resource {
            Some(resource) => resource.clone(),
            None => token::audience(token.expose()).ok_or_else(|| {
                let message = "access token: names no one audience\nhint: `--resource URI`";
                Failure::said(Code::Usage, message)
            })?,
        };
        let nonce = self
            .nonce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let digest = json::sha256(&post.body);
        let proof = self
            .signer
            .proof(
                &resource,
                token.expose(),
                nonce.as_deref(),
                Some(&digest),
                SystemTime::now(),
            )
            .map_err(|error| Failure::new(Code::Software, &error))?;
        let authorization = Secret::new(format!("DPoP {}", token.expose()));
        let odd = |_invalid| Failure::said(Code::Usage, "access token: holds what no header may");
        let mut authorization = HeaderValue::from_str(authorization.expose()).map_err(odd)?;
        authorization.set_sensitive(true);
        let mut request = Request::new(Full::from(post.body.clone()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = post.path.parse().map_err(|_odd| {
            Failure::said(
                Code::Usage,
                format!("`{}`: no path of the broker", post.path),
            )
        })?;
        let headers = request.headers_mut();
        headers.extend(post.headers.clone());
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(PROOF, HeaderValue::from_str(&proof).map_err(odd)?);
        Ok(request)
    }
}

/// The whole body of an answer, as long as it may be.
pub(super) async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let limited = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let collected = limited.collect().await.map_err(|error| {
        Failure::said(
            Code::TryAgain,
            format!("broker: the answer broke off: {error}"),
        )
    })?;
    Ok(collected.to_bytes())
}

/// Reads a proof key.
pub(super) fn load(path: &Path) -> Result<Signer, Failure> {
    Signer::load(path).map_err(|error| Failure::new(Code::Usage, &error))
}

fn challenge(response: &Response<Incoming>) -> Option<&str> {
    let challenge = response.headers().get(header::WWW_AUTHENTICATE)?;
    challenge.to_str().ok()
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let socket = socket.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        let message =
            format!("broker socket `{socket}`: not permitted\nhint: be a member of its group");
        return Failure::said(Code::NoPermission, message);
    }
    if error.kind() == io::ErrorKind::WouldBlock {
        let message = format!(
            "broker socket `{socket}`: its queue is full\nhint: somebody floods it: the audit log says who, with the code `connection_limit`"
        );
        return Failure::said(Code::TryAgain, message);
    }
    let message = format!(
        "broker socket `{socket}`: nobody listens: {error}\nhint: `stockade status` tells whether the agent takes calls"
    );
    Failure::said(Code::TryAgain, message)
}

#[cfg(test)]
mod tests;
