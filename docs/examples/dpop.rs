//! Proofs of possession (RFC 9449) for calls over Stockade's socket: the HTTP client of `rmcp` for unix
//! sockets, with token and proof added to each request.
//!
//! Needs `base64`, `futures`, `http`, `p256`, `rmcp`, `serde_json`, `sse-stream`, `tokio` and `uuid`.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    pkcs8::DecodePrivateKey as _,
};
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::{
        UnixSocketHttpClient,
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
            StreamableHttpResponseLimits,
        },
    },
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sse_stream::Sse;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Asks for nothing: its answer brings the nonce of the next proofs.
const PING: &str = r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#;

/// Who calls, and where.
#[derive(Clone)]
pub struct Broker {
    http: UnixSocketHttpClient,
    known: Arc<Known>,
}

struct Known {
    socket: String,
    resource: String,
    token: String,
    key: SigningKey,
    nonce: Mutex<String>,
}

type HttpError = <UnixSocketHttpClient as StreamableHttpClient>::Error;

impl Broker {
    /// `address` is what the transport is given too; its host means nothing, the socket decides.
    pub fn new(
        socket: &str,
        address: &str,
        key_pem: &str,
        token: &str,
        resource: &str,
    ) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            http: UnixSocketHttpClient::new(socket, address),
            known: Arc::new(Known {
                socket: socket.to_owned(),
                resource: resource.to_owned(),
                token: token.trim().to_owned(),
                key: SigningKey::from_pkcs8_pem(key_pem)?,
                nonce: Mutex::default(),
            }),
        })
    }

    /// What stands in `Authorization`.
    pub fn authorization(&self) -> String {
        format!("DPoP {}", self.known.token)
    }

    /// A proof for one request.
    pub fn proof(&self) -> String {
        let known = &self.known;
        let point = known.key.verifying_key().to_encoded_point(false);
        let coordinate = |bytes: Option<_>| bytes.map(|bytes: &p256::FieldBytes| base64url(bytes));
        let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": {
            "kty": "EC", "crv": "P-256", "x": coordinate(point.x()), "y": coordinate(point.y()),
        }});
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nonce = known.nonce.lock().unwrap_or_else(PoisonError::into_inner);
        let claims = json!({
            "jti": uuid::Uuid::new_v4().to_string(),
            "htm": "POST",
            "htu": known.resource,
            "iat": now.unwrap_or_default().as_secs(),
            "ath": base64url(&Sha256::digest(&known.token)),
            "nonce": *nonce,
        });
        let signed = [header, claims].map(|part| base64url(part.to_string().as_bytes()));
        let signed = signed.join(".");
        let signature: Signature = known.key.sign(signed.as_bytes());
        format!("{signed}.{}", base64url(&signature.to_bytes()))
    }

    /// Asks for the nonce of the next proofs.
    pub async fn renew_nonce(&self) -> Result<(), std::io::Error> {
        let mut stream = UnixStream::connect(&self.known.socket).await?;
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: stockade\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{PING}",
            PING.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let mut heads = answer.lines().filter_map(|line| line.split_once(": "));
        if let Some((_, nonce)) = heads.find(|(name, _)| name.eq_ignore_ascii_case("dpop-nonce")) {
            let mut known = self.known.nonce.lock().unwrap_or_else(PoisonError::into_inner);
            nonce.clone_into(&mut known);
        }
        Ok(())
    }
}

impl StreamableHttpClient for Broker {
    type Error = HttpError;

    async fn post_message(
        &self,
        address: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        bearer: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpError>> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(address, message, session, bearer, headers, limits)
            .await
    }

    /// Once more where the broker wants a newer nonce in the proof: the request was not looked at.
    async fn post_message_with_response_limits(
        &self,
        address: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _bearer: Option<String>,
        mut headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<HttpError>> {
        let mut is_again = false;
        loop {
            for (name, value) in [(AUTHORIZATION, self.authorization()), (DPOP, self.proof())] {
                let value = HeaderValue::from_str(&value);
                let value = value.map_err(|error| HttpError::from(http::Error::from(error)))?;
                headers.insert(name, value);
            }
            let (address, session) = (Arc::clone(&address), session.clone());
            let posted = self.http.post_message_with_response_limits(
                address, message.clone(), session, None, headers.clone(), limits,
            );
            match posted.await {
                Err(StreamableHttpError::AuthRequired(refused))
                    if !is_again && refused.www_authenticate_header.contains("use_dpop_nonce") =>
                {
                    is_again = true;
                    self.renew_nonce().await.map_err(HttpError::from)?;
                }
                other => return other,
            }
        }
    }

    async fn delete_session(
        &self,
        address: Arc<str>,
        session: Arc<str>,
        bearer: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<HttpError>> {
        self.http.delete_session(address, session, bearer, headers).await
    }

    async fn get_stream(
        &self,
        address: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        bearer: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, StreamableHttpError<HttpError>> {
        self.http.get_stream(address, session, last_event, bearer, headers).await
    }
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
