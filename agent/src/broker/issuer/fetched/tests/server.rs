//! A server of loopback that answers each target as it was told, and counts.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Head and body at once, then the end.
    Bytes(Vec<u8>),
    /// The same, a byte at a time.
    Drip(Vec<u8>),
    /// A head, and then bytes without end.
    Endless(Vec<u8>),
    /// Nothing, and no end.
    Silence,
}

impl Answer {
    pub(super) fn json(body: &Value) -> Self {
        Self::page(
            "200 OK",
            &["Content-Type: application/json"],
            &body.to_string(),
        )
    }

    pub(super) fn page(status: &str, headers: &[&str], body: &str) -> Self {
        let headers: String = headers.iter().flat_map(|header| [header, "\r\n"]).collect();
        let length = body.len();
        let page = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        Self::Bytes(page.into_bytes())
    }

    /// The same with one header more.
    pub(super) fn with(self, header: &str) -> Self {
        let Self::Bytes(bytes) = self else {
            return self;
        };
        let text = String::from_utf8(bytes).expect("text");
        Self::Bytes(
            text.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
                .into(),
        )
    }

    pub(super) fn dripping(self) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Drip(bytes),
            other @ (Self::Drip(_) | Self::Endless(_) | Self::Silence) => other,
        }
    }
}

#[derive(Default)]
struct Told {
    answers: HashMap<String, Answer>,
    counts: HashMap<String, usize>,
}

/// The server. It ends with this value.
pub(super) struct Server {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    tasks: JoinSet<()>,
}

/// How a connection becomes one that is spoken on.
pub(super) type Accept = Arc<dyn Fn(TcpStream) -> Opening + Send + Sync>;
type Opening = std::pin::Pin<Box<dyn Future<Output = Option<Box<dyn Stream>>> + Send>>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with(Arc::new(|stream| {
            Box::pin(async move { Some(Box::new(stream) as Box<dyn Stream>) })
        }))
        .await
    }

    pub(super) async fn start_with(accept: Accept) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let told = Arc::new(Mutex::new(Told::default()));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&told);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, accept) = (Arc::clone(&shared), Arc::clone(&accept));
                connections.spawn(async move {
                    if let Some(stream) = accept(stream).await {
                        serve(stream, &shared).await;
                    }
                });
            }
        });
        Self {
            address,
            told,
            tasks,
        }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn put(&self, target: &str, answer: Answer) {
        let mut told = self.told.lock().expect("no panic");
        told.answers.insert(target.to_owned(), answer);
    }

    /// How often a target was asked for.
    pub(super) fn count(&self, target: &str) -> usize {
        let told = self.told.lock().expect("no panic");
        told.counts.get(target).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> usize {
        self.told.lock().expect("no panic").counts.values().sum()
    }

    /// Nobody listens there any more.
    pub(super) async fn vanish(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(mut stream: Box<dyn Stream>, told: &Mutex<Told>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < 8_192 => head.push(byte),
            Ok(_) | Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut told = told.lock().expect("no panic");
        *told.counts.entry(target.clone()).or_default() += 1;
        told.answers.get(&target).cloned()
    };
    let none = Answer::page("404 Not Found", &[], "");
    // Whoever went away does not mind.
    match answer.unwrap_or(none) {
        Answer::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Answer::Drip(bytes) => {
            for byte in bytes {
                if stream.write_u8(byte).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Answer::Endless(head) => {
            let mut alive = stream.write_all(&head).await.is_ok();
            while alive {
                alive = stream.write_all(&[b' '; 4_096]).await.is_ok();
            }
        }
        Answer::Silence => std::future::pending().await,
    }
    drop(stream.shutdown().await);
}
