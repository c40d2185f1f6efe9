//! Newline-delimited JSON-RPC over the socket: one message a line, answers as they come.
//!
//! Credentials ride in `params._meta`. A caller that closes its end cancels what runs for it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, consume_budget},
    time::{Instant, sleep_until},
};

use super::{
    House,
    answer::{self, Refusal},
    mcp::{self, Asked, Era},
    rpc::{self, Id, Malformed, Message},
    running::{Running, Said},
};
use crate::{
    audit::Caller,
    broker::{
        call::{Credentials, Door, Received},
        reason::{Reason, Refused},
    },
    json,
};

/// Requests of one connection at once.
const REQUESTS_MAX: usize = 64;
/// Answers that wait for a caller to read.
const ANSWERS_MAX: usize = 16;
const READ_BYTES: usize = 16 * 1_024;
/// The code of JSON-RPC for a method that is not there.
pub(super) const METHOD_NOT_FOUND: i64 = -32_601;

/// One connection.
struct Line {
    house: Arc<House>,
    peer: Caller,
    running: Arc<Running<Id>>,
    answers: mpsc::Sender<Vec<u8>>,
    /// A request of this connection came so far that its caller was known.
    known: AtomicBool,
    /// When a request ended last.
    ended: Mutex<Instant>,
}

/// Serves one connection to its end.
pub(super) async fn serve<R, W>(house: &Arc<House>, peer: Caller, reader: R, writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (answers, to_write) = mpsc::channel(ANSWERS_MAX);
    let line = Arc::new(Line {
        house: Arc::clone(house),
        peer,
        running: Arc::default(),
        answers,
        known: AtomicBool::new(false),
        ended: Mutex::new(Instant::now()),
    });
    let mut tasks = JoinSet::new();
    let mut writing = tokio::spawn(write(writer, to_write));
    let refused = tokio::select! {
        refused = read(&line, reader, &mut tasks) => refused,
        _ = &mut writing => None,
    };
    // What runs for a caller that is gone is cancelled: its task goes with the set.
    tasks.shutdown().await;
    if let Some(refused) = refused {
        house.broker.turned_away(peer, &refused);
        let told = Refusal::from(&refused).error(None);
        line.answer(&told).await;
    }
    drop(line);
    if !writing.is_finished()
        && let Err(error) = writing.await
    {
        tracing::debug!(%error, "answers not written");
    }
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut answers: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = answers.recv().await {
        if let Err(error) = writer.write_all(&answer).await {
            tracing::debug!(%error, "broker connection ended early");
            return;
        }
    }
}

/// Reads lines until the caller closes or must be refused for good: after a line that is too long or
/// too slow nobody knows where the next one begins.
async fn read<R: AsyncRead + Unpin>(
    line: &Arc<Line>,
    mut reader: R,
    tasks: &mut JoinSet<()>,
) -> Option<Refused> {
    let times = line.house.settings.times;
    let bytes_max = line.house.broker.frame_limits().bytes_in;
    let mut stopping = line.house.stopping.clone();
    let slots = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut frame = Vec::new();
    let mut arrivals = vec![0; READ_BYTES];
    let mut until = Instant::now().checked_add(times.frame)?;
    loop {
        let bytes = tokio::select! {
            () = stopping.wait() => return Some(Reason::Stopping.into()),
            read = reader.read(&mut arrivals) => match read {
                Ok(0) | Err(_) => return None,
                Ok(bytes) => bytes,
            },
            () = sleep_until(until) => {
                if !frame.is_empty() {
                    return Some(Reason::FrameTooSlow.into());
                }
                let now = Instant::now();
                until = match line.ended(tasks) {
                    Some(ended) => ended.checked_add(times.idle).filter(|until| *until > now)?,
                    None => now.checked_add(times.idle)?,
                };
                continue;
            }
        };
        let was_empty = frame.is_empty();
        let mut arrived = arrivals.get(..bytes).unwrap_or_default();
        let mut ended = false;
        while let Some(end) = arrived.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = arrived.split_at(end);
            arrived = rest.get(1..).unwrap_or_default();
            frame.extend_from_slice(head);
            ended = true;
            if frame.len() > bytes_max {
                return Some(Reason::FrameTooLarge.into());
            }
            let whole = std::mem::take(&mut frame);
            line.take(&whole, tasks, &slots).await;
            // Many short lines may have come at once: others have their turn between two of them.
            consume_budget().await;
        }
        frame.extend_from_slice(arrived);
        if frame.len() > bytes_max {
            return Some(Reason::FrameTooLarge.into());
        }
        if frame.is_empty() {
            until = Instant::now().checked_add(times.idle)?;
        } else if was_empty || ended {
            until = Instant::now().checked_add(times.frame)?;
        }
    }
}

impl Line {
    /// When the last request ended, if none is carried out. Nobody is woken at each end: that would be
    /// before its answer is written.
    fn ended(&self, tasks: &mut JoinSet<()>) -> Option<Instant> {
        while tasks.try_join_next().is_some() {}
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.is_empty().then_some(*ended)
    }

    async fn answer(&self, value: &Value) {
        let mut bytes = value.to_string().into_bytes();
        bytes.push(b'\n');
        // Where the writer is gone the connection ends.
        drop(self.answers.send(bytes).await);
    }

    async fn refuse(&self, id: Option<&Id>, refused: &Refused) {
        self.house.broker.turned_away(self.peer, refused);
        // Nothing more is read meanwhile.
        self.house.hold(self.peer).await;
        self.answer(&Refusal::from(refused).error(id)).await;
    }

    /// Takes one line.
    async fn take(self: &Arc<Self>, bytes: &[u8], tasks: &mut JoinSet<()>, slots: &Arc<Semaphore>) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            return;
        }
        let mut value = match rpc::parse(bytes, self.house.broker.frame_limits()) {
            Ok(value) => value,
            Err(refused) => return self.refuse(None, &refused).await,
        };
        let credentials = rpc::take_credentials(&mut value);
        // Of what is left: a proof can not hold the digest of itself.
        let digest = json::digest(&value);
        let message = match rpc::read(value) {
            Ok(message) => message,
            Err(Malformed { id, refused }) => return self.refuse(id.as_ref(), &refused).await,
        };
        let (id, method, params) = match message {
            Message::Request { id, method, params } => (id, method, params),
            Message::Notification { method, params } => {
                let cancelled = mcp::cancelled(&method, &params);
                if let Some(id) = cancelled.filter(|id| self.running.holds(id)) {
                    return self.running.cancel(&id);
                }
                return self.house.give(self.peer).await;
            }
            Message::Response => return self.house.give(self.peer).await,
        };
        let credentials = match credentials {
            Ok(credentials) => credentials,
            Err(refused) => return self.refuse(Some(&id), &refused).await,
        };
        let asked = Era::of(&method, &params)
            .and_then(|era| Ok((era, mcp::read(&method, params, era, None)?)));
        let (era, asked) = match asked {
            Ok(asked) => asked,
            Err(refusal) => {
                let refused = refusal.reason.into();
                self.house.broker.turned_away(self.peer, &refused);
                self.house.hold(self.peer).await;
                return self.answer(&refusal.error(Some(&id))).await;
            }
        };
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            return self
                .refuse(Some(&id), &Reason::ConcurrencyLimited.into())
                .await;
        };
        self.begin(id, (era, asked), (credentials, digest), slot, tasks)
            .await;
    }

    /// Begins what a request asks for.
    async fn begin(
        self: &Arc<Self>,
        id: Id,
        (era, asked): (Era, Asked),
        (credentials, digest): (Credentials, [u8; 32]),
        slot: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) {
        let line = Arc::clone(self);
        match asked {
            Asked::Answer(result) => {
                self.house.give(self.peer).await;
                self.answer(&rpc::result(&id, &era.complete(result))).await;
            }
            Asked::Unknown => {
                self.house.give(self.peer).await;
                let told = rpc::error(Some(&id), METHOD_NOT_FOUND, "no such method", None);
                self.answer(&told).await;
            }
            Asked::List { after } => {
                let task = async move { line.list(&id, era, credentials, digest, after).await };
                self.run(task, slot, tasks).await;
            }
            Asked::Call(_) if self.running.holds(&id) => {
                let refused = Refused::because(Reason::RequestMalformed, "an id that is in use");
                self.refuse(Some(&id), &refused).await;
            }
            Asked::Call(call) => {
                let task = self.call(id, era, credentials, digest, call);
                self.run(task, slot, tasks).await;
            }
        }
    }

    /// Carries on beside what comes next; for a user who floods, and on a connection that showed no
    /// good credentials yet, before it.
    async fn run(
        self: &Arc<Self>,
        task: impl Future<Output = ()> + Send + 'static,
        slot: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) {
        let line = Arc::clone(self);
        let task = async move {
            task.await;
            *line.ended.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            drop(slot);
        };
        while tasks.try_join_next().is_some() {}
        let known = self.known.load(Ordering::Relaxed);
        if known || self.house.broker.penalty(self.peer).is_none() {
            tasks.spawn(task);
        } else {
            task.await;
        }
    }

    /// What a request came to: a refusal before its caller was known may have to wait.
    async fn judge(&self, reason: Option<Reason>) {
        if reason.is_some_and(Reason::is_before_known) {
            self.house.hold(self.peer).await;
        } else {
            self.known.store(true, Ordering::Relaxed);
        }
    }

    async fn list(
        &self,
        id: &Id,
        era: Era,
        credentials: Credentials,
        digest: [u8; 32],
        after: Option<String>,
    ) {
        let broker = &self.house.broker;
        let listed = broker.list(self.peer, credentials, digest, None).await;
        self.judge(listed.as_ref().err().map(|refused| refused.reason))
            .await;
        let answer = match listed {
            Ok(verbs) => {
                let bytes_max = broker.frame_limits().bytes_out / 2;
                let result = mcp::listed(verbs, era, None, after.as_deref(), bytes_max);
                rpc::result(id, &result)
            }
            Err(refused) => {
                let mut refusal = Refusal::from(&refused);
                refusal.nonce = Some(broker.nonce());
                refusal.error(Some(id))
            }
        };
        self.answer(&answer).await;
    }

    /// Begins a call at once, so that its id is known before the next line is read.
    fn call(
        self: &Arc<Self>,
        id: Id,
        era: Era,
        credentials: Credentials,
        digest: [u8; 32],
        asked: mcp::Call,
    ) -> impl Future<Output = ()> + Send + use<> {
        let line = Arc::clone(self);
        let token = asked.progress_token;
        let wants_progress = token.is_some();
        let peer = self.peer;
        let begun = self
            .running
            .begin(id.clone(), &self.house.broker, |cancelled, progress| {
                Received {
                    door: Door::Lines,
                    peer,
                    credentials,
                    tool: asked.tool,
                    verb: asked.verb,
                    arguments: asked.arguments,
                    body_digest: digest,
                    idempotency_key: asked.idempotency_key,
                    prompt_hash: asked.prompt_hash,
                    progress: wants_progress.then_some(progress),
                    cancelled,
                }
            });
        async move {
            let mut begun = begun;
            let reply = loop {
                match begun.next().await {
                    Said::Reply(reply) => break reply,
                    Said::Progress(said) => {
                        let told = token
                            .as_ref()
                            .and_then(|token| answer::progress(token, &said));
                        if let Some(told) = told {
                            line.answer(&told).await;
                        }
                    }
                }
            };
            let nonce = line.house.broker.nonce();
            let said = Refusal::of(reply);
            line.judge(said.as_ref().err().map(|refusal| refusal.reason))
                .await;
            let told = match said {
                Ok(done) => answer::done(&id, era, done, Some(nonce)),
                Err(refusal) => refusal.answer(&id, era),
            };
            // Its id is free before the caller can know that it is over.
            drop(begun);
            line.answer(&told).await;
        }
    }
}
