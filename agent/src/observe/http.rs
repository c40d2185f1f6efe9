//! The page server: `GET /metrics` and `GET /healthz`, one request a connection, everything bounded.

use std::{convert::Infallible, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use flate2::{Compression, write::GzEncoder};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::shutdown::Stopping;

/// Connections served at once; further ones wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 16;
/// Bytes of a request's head (the least that hyper takes).
pub const HEAD_BYTES_MAX: usize = 8_192;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Time a client has to send its head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a connection has in all.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TYPE: &str = "text/plain; charset=utf-8";

/// What the pages say. The daemon brings it.
pub struct Pages {
    /// The text of `/metrics`, or why there is none.
    pub metrics: Box<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>,
    /// What is wrong, or nothing.
    pub ailments: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// The listener, bound.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

/// The address can not be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics address {address}: can not be listened on\nhint: `metrics = \"off\"` or another port in stockade.toml"
)]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

impl Server {
    /// Binds the address.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| BindError { address, source })?;
        Ok(Self { listener })
    }

    /// Serves until it is time to stop.
    pub async fn serve(self, pages: Arc<Pages>, mut stopping: Stopping) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let slot = tokio::select! {
                () = stopping.wait() => return,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            let accepted = tokio::select! {
                () = stopping.wait() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let pages = Arc::clone(&pages);
                    tokio::spawn(async move {
                        connection(stream, pages).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "metrics connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut reply = answer(request.method(), request.uri().path(), &pages);
        if takes_gzip(request.headers()) {
            reply = packed(reply);
        }
        let reply = reply.map(|page| Full::new(Bytes::from(page)));
        async move { Ok::<_, Infallible>(reply) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "metrics connection ended early"),
        Err(_) => tracing::debug!("metrics connection took too long"),
    }
}

fn answer(method: &Method, path: &str, pages: &Pages) -> Response<Vec<u8>> {
    if method != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TYPE, "only GET\n");
    }
    match path {
        "/metrics" => match (pages.metrics)() {
            Ok(page) => reply(StatusCode::OK, METRICS_TYPE, page),
            Err(error) => {
                tracing::warn!(error, "metrics not rendered");
                reply(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    PLAIN_TYPE,
                    "not available\n",
                )
            }
        },
        "/healthz" => {
            let ailments = (pages.ailments)();
            if ailments.is_empty() {
                return reply(StatusCode::OK, PLAIN_TYPE, "ok\n");
            }
            let text = ailments.join("\n") + "\n";
            reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN_TYPE, text)
        }
        _ => reply(StatusCode::NOT_FOUND, PLAIN_TYPE, "/metrics or /healthz\n"),
    }
}

/// Whether the client says that it takes gzip (RFC 9110, 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        // A weight of 0 means *not that*.
        let weights = parts.filter_map(|part| part.strip_prefix("q="));
        named && !weights.into_iter().any(|q| q.parse() == Ok(0.0))
    })
}

/// The same, in gzip.
fn packed(reply: Response<Vec<u8>>) -> Response<Vec<u8>> {
    let (mut head, page) = reply.into_parts();
    let mut pack = GzEncoder::new(Vec::new(), Compression::fast());
    let body = match pack.write_all(&page).and_then(|()| pack.finish()) {
        Ok(packed) => {
            let coding = header::HeaderValue::from_static("gzip");
            head.headers.insert(header::CONTENT_ENCODING, coding);
            packed
        }
        // Memory does not fail; if it does, the page goes as it is.
        Err(_) => page,
    };
    Response::from_parts(head, body)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = header::HeaderValue::from_static("GET");
        reply.headers_mut().insert(header::ALLOW, allow);
    }
    reply
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::{Pages, Server};
    use crate::shutdown;

    async fn ask(request: &str) -> String {
        String::from_utf8(ask_bytes(request).await).expect("text")
    }

    async fn ask_bytes(request: &str) -> Vec<u8> {
        let (stop, stopping) = shutdown::pair();
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .expect("bind");
        let address = server.listener.local_addr().expect("address");
        let pages = Arc::new(Pages {
            metrics: Box::new(|| Ok(b"up 1\n".to_vec())),
            ailments: Box::new(|| vec!["journal: can not be written".to_owned()]),
        });
        let serving = tokio::spawn(server.serve(pages, stopping));
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut page = Vec::new();
        stream.read_to_end(&mut page).await.expect("read");
        stop.now();
        serving.await.expect("server ends");
        page
    }

    #[tokio::test]
    async fn pages_and_refusals() {
        let metrics = ask("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\nup 1\n"), "{metrics}");
        for (accepted, packed) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
        ] {
            let request =
                format!("GET /metrics HTTP/1.1\r\nhost: a\r\naccept-encoding: {accepted}\r\n\r\n");
            let page = ask_bytes(&request).await;
            let at = page.windows(4).position(|end| end == b"\r\n\r\n");
            let (head, body) = page.split_at(at.expect("a head") + 4);
            let head = String::from_utf8_lossy(head);
            assert_eq!(
                head.contains("content-encoding: gzip"),
                packed,
                "{accepted}"
            );
            let mut text = String::new();
            if packed {
                let mut unpack = flate2::read::GzDecoder::new(body);
                std::io::Read::read_to_string(&mut unpack, &mut text).expect("gzip");
            } else {
                text.push_str(std::str::from_utf8(body).expect("text"));
            }
            assert_eq!(text, "up 1\n");
        }
        let health = ask("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
        assert!(
            health.ends_with("journal: can not be written\n"),
            "{health}"
        );
        let post = ask("POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
        let other = ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
        let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
        assert!(ask(&large).await.starts_with("HTTP/1.1 431 "));
    }
}
