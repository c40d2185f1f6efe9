//! One `GET` of JSON or one `POST` of a text: bounded in time, bytes and headers, over TLS but for
//! loopback, to the origin that it is given and no other. No cookie, no redirect, no credential, no proxy, one connection each.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
    http::request,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{error::FetchError, pace::max_age};
use crate::config::{Endpoint, Origin};

/// Time for a connection and its TLS.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Header lines of an answer.
const HEADERS_MAX: usize = 64;
const AGENT: &str = concat!("stockade/", env!("CARGO_PKG_VERSION"));

/// What was answered.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) bytes: Bytes,
    /// For how long it is fresh, if it says so.
    pub(super) max_age: Option<Duration>,
}

/// Who fetches, trusting certain authorities.
pub struct Client {
    tls: TlsConnector,
}

impl Client {
    /// Trusts these and no other.
    pub fn new(authorities: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Gets a page of this many bytes at most. Whoever calls this bounds the time of it all.
    pub(super) async fn get(&self, at: &Endpoint, bytes_max: usize) -> Result<Page, FetchError> {
        let request = Request::get(&at.target)
            .header(header::ACCEPT, "application/json, application/jwk-set+json");
        let answered = self.ask(at, request, Bytes::new()).await?;
        let response = answered.response;
        check(&response)?;
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Http(*error),
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>());
                FetchError::Size(bytes_max)
            }
        })?;
        Ok(Page {
            bytes: body.to_bytes(),
            max_age,
        })
    }

    /// Hands over a text; only what is answered with success was taken. The answer's body is not
    /// read. Whoever calls this bounds the time of it all.
    pub async fn post(&self, at: &Endpoint, text: Bytes) -> Result<(), FetchError> {
        let request =
            Request::post(&at.target).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        let status = self.ask(at, request, text).await?.response.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(FetchError::Status(status.as_u16()))
        }
    }

    async fn ask(
        &self,
        at: &Endpoint,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Answered, FetchError> {
        let request = request
            .header(header::HOST, at.origin.authority())
            .header(header::USER_AGENT, AGENT)
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|error| FetchError::Connect {
                origin: at.origin.to_string(),
                source: io::Error::other(error),
            })?;
        let connected = timeout(CONNECT_TIME_MAX, connect(&at.origin)).await;
        let stream = connected.map_err(|_elapsed| FetchError::Slow)??;
        if !at.origin.tls {
            return exchange(stream, request).await;
        }
        let refused = |source| FetchError::Tls {
            origin: at.origin.to_string(),
            source,
        };
        let name = ServerName::try_from(at.origin.host.clone())
            .map_err(|error| refused(io::Error::other(error)))?;
        let shaken = timeout(CONNECT_TIME_MAX, self.tls.connect(name, stream)).await;
        let stream = shaken.map_err(|_elapsed| FetchError::Slow)?;
        exchange(stream.map_err(refused)?, request).await
    }
}

/// An answer whose body may still come.
struct Answered {
    response: Response<Incoming>,
    /// Carries the connection, and ends with this value.
    _driver: JoinSet<()>,
}

async fn connect(origin: &Origin) -> Result<TcpStream, FetchError> {
    let connected = TcpStream::connect((origin.host.as_str(), origin.port)).await;
    connected.map_err(|source| FetchError::Connect {
        origin: origin.to_string(),
        source,
    })
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answered, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await?;
    Ok(Answered {
        response,
        _driver: driver,
    })
}

fn check(response: &Response<Incoming>) -> Result<(), FetchError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(FetchError::Redirect(status.as_u16()));
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status.as_u16()));
    }
    let headers = response.headers();
    let encoded = headers.get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|encoding| encoding != "identity") {
        return Err(FetchError::Encoded);
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let json =
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if json { Ok(()) } else { Err(FetchError::Type) }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
