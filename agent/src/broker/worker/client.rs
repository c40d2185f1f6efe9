//! MCP over a worker's stdio, as the client: the handshake of the era that the worker speaks, what it
//! lists, and one call at a time.
//!
//! First `initialize` (2025-11-25 and older); a worker that does not know it is asked in the
//! stateless way of 2026-07-28, where each request says its version itself.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{
    Answer, Asked, Bounds, Failure, Process, answer,
    message::{self, Message},
    pin::Tools,
};
use crate::broker::reason::{Reason, Refused};

/// The last revision with a handshake.
const WITH_HANDSHAKE: &str = "2025-11-25";
/// Older revisions whose `tools/call` means the same.
const OLDER: &[&str] = &["2025-06-18", "2025-03-26", "2024-11-05"];
/// The stateless revision.
const STATELESS: &str = "2026-07-28";
/// Messages of a worker while it owes an answer.
const MESSAGES_MAX: u32 = 10_000;
/// Pages of `tools/list`.
const PAGES_MAX: u32 = 64;
/// Bytes of a worker's error that a caller sees.
const ERROR_BYTES_MAX: usize = 4096;

/// How a worker is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Era {
    Handshake,
    Stateless,
}

/// A worker that was asked what it offers and now takes calls.
pub(in crate::broker) struct Client {
    process: Process,
    bounds: Bounds,
    era: Era,
    next_id: u64,
    tools: Tools,
    /// It owes nothing: it may take another call.
    fit: bool,
    /// It said that it offers something else now than it listed.
    tools_changed: bool,
}

/// What came back for a request.
enum Answered {
    Result(Value),
    Error { code: i64, message: String },
}

impl Client {
    /// Speaks to a worker that was just started.
    pub(in crate::broker) async fn open(process: Process, bounds: Bounds) -> Result<Self, Failure> {
        let mut client = Self {
            process,
            bounds,
            era: Era::Handshake,
            next_id: 1,
            tools: Tools::default(),
            fit: true,
            tools_changed: false,
        };
        // Nothing of the call was said yet.
        client.greet().await.map_err(not_begun)?;
        client.list().await.map_err(not_begun)?;
        Ok(client)
    }

    /// Its session.
    pub(in crate::broker) fn session(&self) -> u64 {
        self.process.session()
    }

    /// How long its session has run.
    pub(in crate::broker) fn age(&self) -> Duration {
        self.process.age()
    }

    /// To be asked from this runtime. Where that fails it is of no use any more.
    pub(in crate::broker) fn come_here(&mut self) -> std::io::Result<()> {
        self.process.come_here()
    }

    /// Whether it may be asked again.
    pub(in crate::broker) fn is_fit(&mut self) -> bool {
        self.fit && self.process.is_alive()
    }

    /// Lets it go.
    pub(in crate::broker) fn leave(self) {
        self.process.leave();
    }

    /// Whether a tool is the one that its policy pins.
    pub(in crate::broker) fn check(
        &self,
        name: &str,
        pin: Option<[u8; 32]>,
    ) -> Result<(), Refused> {
        self.tools.check(name, pin)
    }

    /// Calls a tool. Where this is dropped before its end, only [`Client::cancel`] may follow.
    pub(in crate::broker) async fn call(&mut self, asked: &Asked<'_>) -> Result<Answer, Failure> {
        self.fit = false;
        let mut params = Map::new();
        params.insert("name".to_owned(), asked.verb.into());
        params.insert("arguments".to_owned(), asked.arguments.clone());
        if asked.progress.is_some() {
            let token = json!({"progressToken": self.next_id});
            params.insert("_meta".to_owned(), token);
        }
        let answered = self
            .ask("tools/call", Value::Object(params), asked.progress)
            .await?;
        let answer = match answered {
            Answered::Result(result) => answer::read(result)?,
            Answered::Error { code, mut message } => {
                message.truncate(message.floor_char_boundary(ERROR_BYTES_MAX));
                answer::failure(&format!("the worker refused ({code}): {message}"))
            }
        };
        self.fit = !self.tools_changed;
        Ok(answer)
    }

    /// Tells the worker that nobody waits for its answer any more.
    pub(in crate::broker) async fn cancel(&mut self, why: &str) {
        let request = self.next_id.saturating_sub(1);
        let params = json!({"requestId": request, "reason": why});
        let line = message::notification("notifications/cancelled", &params);
        if let Err(error) = self.process.write(&line).await {
            tracing::debug!(%error, "worker not told of the cancellation");
        }
    }

    async fn greet(&mut self) -> Result<(), Failure> {
        let params = json!({
            "protocolVersion": WITH_HANDSHAKE,
            "capabilities": {},
            "clientInfo": client_info(),
        });
        match self.ask("initialize", params, None).await? {
            Answered::Result(result) => {
                let version = result.get("protocolVersion").and_then(Value::as_str);
                let known = version
                    .is_some_and(|version| version == WITH_HANDSHAKE || OLDER.contains(&version));
                if !known {
                    return Err(malformed("it speaks no revision that is spoken here"));
                }
                let line = message::notification("notifications/initialized", &json!({}));
                self.write(&line).await
            }
            Answered::Error { .. } => {
                self.era = Era::Stateless;
                self.discover().await
            }
        }
    }

    async fn discover(&mut self) -> Result<(), Failure> {
        match self.ask("server/discover", json!({}), None).await? {
            Answered::Result(result) => {
                let versions = result.get("supportedVersions").and_then(Value::as_array);
                let speaks = versions.is_some_and(|all| all.iter().any(|one| one == STATELESS));
                if speaks {
                    return Ok(());
                }
                Err(malformed("it speaks no revision that is spoken here"))
            }
            Answered::Error { code, message } => Err(malformed(&format!(
                "it knows neither `initialize` nor `server/discover`: {code} {}",
                message.escape_debug()
            ))),
        }
    }

    async fn list(&mut self) -> Result<(), Failure> {
        let mut params = json!({});
        for _ in 0..PAGES_MAX {
            match self.ask("tools/list", params, None).await? {
                Answered::Result(page) => match self.tools.add(page)? {
                    None => return Ok(()),
                    Some(cursor) => params = json!({"cursor": cursor}),
                },
                Answered::Error { code, message } => {
                    let message = message.escape_debug();
                    return Err(malformed(&format!("`tools/list`: {code} {message}")));
                }
            }
        }
        Err(malformed("`tools/list` has no end"))
    }

    /// One request and its answer; what comes before that is attended to.
    async fn ask(
        &mut self,
        method: &str,
        mut params: Value,
        progress: Option<&mpsc::Sender<Value>>,
    ) -> Result<Answered, Failure> {
        if self.era == Era::Stateless {
            stamp(&mut params);
        }
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        self.write(&message::request(id, method, &params)).await?;
        for _ in 0..MESSAGES_MAX {
            match message::read(self.receive().await?)? {
                Message::Result { id: of, result } if of == id => {
                    return Ok(Answered::Result(result));
                }
                Message::Error {
                    id: of,
                    code,
                    message,
                } if of == id => return Ok(Answered::Error { code, message }),
                Message::Result { .. } | Message::Error { .. } => {
                    return Err(malformed("an answer to something else"));
                }
                Message::Request { id, method } => {
                    self.write(&message::reply(&id, &method)).await?;
                }
                Message::Notification { method, params } => {
                    self.told(&method, params, id, progress);
                }
            }
        }
        Err(malformed("too many messages before the answer"))
    }

    fn told(
        &mut self,
        method: &str,
        mut params: Value,
        id: u64,
        progress: Option<&mpsc::Sender<Value>>,
    ) {
        match (method, progress) {
            ("notifications/tools/list_changed", _) => self.tools_changed = true,
            ("notifications/progress", Some(progress)) => {
                let ours = params.get("progressToken").and_then(Value::as_u64) == Some(id);
                if let (true, Value::Object(object)) = (ours, &mut params) {
                    object.remove("progressToken");
                    // Who is slow misses some.
                    progress.try_send(params).ok();
                }
            }
            _ => tracing::trace!("notification of a worker left unread"),
        }
    }

    async fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        let written = self.process.write(line).await;
        written.map_err(|error| Failure::after(Reason::WorkerFailed, error))
    }

    async fn receive(&mut self) -> Result<Value, Failure> {
        loop {
            let Some(line) = self.process.line().await? else {
                return Err(Failure::after(Reason::WorkerFailed, "it ended"));
            };
            if !line.iter().all(u8::is_ascii_whitespace) {
                return self.bounds.parse(&line);
            }
        }
    }
}

fn client_info() -> Value {
    json!({"name": "stockade", "version": env!("CARGO_PKG_VERSION")})
}

/// Says version and abilities in the request itself.
fn stamp(params: &mut Value) {
    let Value::Object(params) = params else {
        return;
    };
    let meta = params.entry("_meta").or_insert_with(|| json!({}));
    if let Value::Object(meta) = meta {
        let prefix = "io.modelcontextprotocol";
        meta.insert(format!("{prefix}/protocolVersion"), STATELESS.into());
        meta.insert(format!("{prefix}/clientInfo"), client_info());
        meta.insert(format!("{prefix}/clientCapabilities"), json!({}));
    }
}

fn not_begun(failure: Failure) -> Failure {
    Failure {
        begun: false,
        ..failure
    }
}

fn malformed(what: &str) -> Failure {
    Failure::after(Reason::WorkerMalformed, what)
}
