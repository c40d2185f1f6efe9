//! `stockade mcp`: MCP over stdin and stdout for hosts that can only start servers. Each message goes
//! to the broker's HTTP door as it came, with token and proof; what comes back goes to stdout.
//!
//! No policy in it: nothing is allowed, refused or changed here.

mod message;

use std::{
    collections::HashMap,
    io::{self, BufRead as _, Read as _, Write as _},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::{Response, body::Bytes, body::Incoming, header};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use self::message::{Message, failed};
use super::{
    Failure,
    caller::{ANSWER_BYTES_MAX, Caller, Post, Shown, whole},
    runtime,
};
use crate::exit::Code;

/// Longest line that is taken from the host, bytes: more than any broker takes.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Answers that wait for the host to read.
const ANSWERS_MAX: usize = 16;
/// Lines of the host that wait for their turn.
const LINES_MAX: usize = 16;

/// Speaks MCP on stdin and stdout, and hands every message to the broker with a proof.
///
/// Without TOOL, every operation that the token covers is a tool named `tool.operation`; with it, those
/// of this tool, by their own names.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockade mcp invoice --key proof.pem --token-file /run/user/1000/token
  stockade mcp --key proof.pem --token-command 'fetch-token --audience stockade'")]
pub(super) struct Arguments {
    /// The one tool to show.
    tool: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// Everything that a message needs.
struct Shim {
    caller: Caller,
    path: String,
    answers: mpsc::Sender<Bytes>,
    /// What runs, by the id that the host gave it.
    running: Mutex<HashMap<String, AbortHandle>>,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { tool, shown } = arguments;
    let path = tool.map_or_else(|| "/mcp".to_owned(), |tool| format!("/mcp/{tool}"));
    let caller = Caller::of(shown)?;
    let runtime = runtime()?;
    let served = runtime.block_on(serve(caller, path));
    // A write may still wait for the host; nothing waits for it.
    runtime.shutdown_background();
    served?;
    Ok(Code::Ok.into())
}

async fn serve(caller: Caller, path: String) -> Result<(), Failure> {
    let (answers, to_write) = mpsc::channel(ANSWERS_MAX);
    let shim = Arc::new(Shim {
        caller,
        path,
        answers,
        running: Mutex::default(),
    });
    let (lines, mut arrived) = mpsc::channel(LINES_MAX);
    thread::spawn(move || read(&lines));
    let mut writing = tokio::task::spawn_blocking(move || write(to_write));
    let mut tasks = JoinSet::new();
    let read = loop {
        let line = tokio::select! {
            line = arrived.recv() => line,
            // Those that are over leave the set.
            Some(_) = tasks.join_next() => continue,
            // Nobody reads any more: what runs for the host is cancelled.
            _ = &mut writing => return Ok(()),
        };
        match line {
            Some(Ok(line)) => shim.take(&line, &mut tasks),
            Some(Err(failure)) => break Err(failure),
            None => break Ok(()),
        }
    };
    let answered = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = answered => {}
        _ = &mut writing => return read,
    }
    drop(shim);
    // What was told is written before the process ends.
    drop(writing.await);
    read
}

fn write(mut answers: mpsc::Receiver<Bytes>) {
    let mut stdout = io::stdout().lock();
    while let Some(answer) = answers.blocking_recv() {
        let written = stdout
            .write_all(&answer)
            .and_then(|()| stdout.write_all(b"\n"))
            .and_then(|()| stdout.flush());
        if written.is_err() {
            return;
        }
    }
}

/// Reads lines until the host closes. In a thread of its own: a read that waits holds up nothing.
fn read(lines: &mpsc::Sender<Result<Vec<u8>, Failure>>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let bytes = (&mut stdin)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        let line = match bytes {
            Ok(0) => return,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 >= LINE_BYTES_MAX => {
                let message = format!("mcp: a line of more than {LINE_BYTES_MAX} bytes");
                Err(Failure::said(Code::Usage, message))
            }
            Ok(_) => Ok(line),
            Err(error) => {
                let message = format!("mcp: stdin: {error}");
                Err(Failure::said(Code::Unavailable, message))
            }
        };
        let is_last = line.is_err();
        if lines.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}

impl Shim {
    /// Takes one line of the host.
    fn take(self: &Arc<Self>, line: &[u8], tasks: &mut JoinSet<()>) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let message = Message::of(line);
        if let Some(id) = &message.cancels {
            self.cancel(id);
        }
        // The door keeps no state: a notification has nothing to tell it.
        if !message.wants_answer {
            return;
        }
        let body = Bytes::copy_from_slice(line);
        let name = message.id.as_ref().map(Value::to_string);
        let task = tasks.spawn(Arc::clone(self).carry(message, body));
        if let Some(name) = name {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.insert(name, task);
        }
    }

    /// Ends what runs: its connection closes, which the broker takes as the cancellation.
    fn cancel(&self, id: &Value) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = running.remove(&id.to_string()) {
            task.abort();
        }
    }

    /// Carries one message there and its answer back.
    async fn carry(self: Arc<Self>, message: Message, body: Bytes) {
        if let Err(failure) = self.exchange(&message, body).await {
            let told = failed(message.id.as_ref(), &failure.to_string());
            self.tell(Bytes::from(told.to_string())).await;
        }
        if let Some(id) = &message.id {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.remove(&id.to_string());
        }
    }

    async fn exchange(&self, message: &Message, body: Bytes) -> Result<(), Failure> {
        let post = Post {
            path: &self.path,
            headers: message.headers(),
            body,
        };
        let response = self.caller.send(&post).await?;
        if is_stream(&response) {
            return self.events(response).await;
        }
        let status = response.status();
        let body = whole(response).await?;
        let Ok(value) = serde_json::from_slice::<Value>(&body) else {
            let message = format!("broker: answered with HTTP {status}");
            return Err(Failure::said(Code::Unavailable, message));
        };
        // On one line, whatever came.
        self.tell(Bytes::from(value.to_string())).await;
        Ok(())
    }

    /// Hands on the messages of a stream as they come (Server-Sent Events).
    async fn events(&self, response: Response<Incoming>) -> Result<(), Failure> {
        let mut body = response.into_body();
        let mut kept: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let broken = |error| {
                Failure::said(
                    Code::TryAgain,
                    format!("broker: the answer broke off: {error}"),
                )
            };
            let Ok(data) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            kept.extend_from_slice(&data);
            while let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                let rest = kept.split_off(end.saturating_add(1));
                let line = std::mem::replace(&mut kept, rest);
                if let Some(data) = line.trim_ascii().strip_prefix(b"data:") {
                    self.tell(Bytes::copy_from_slice(data.trim_ascii())).await;
                }
            }
            if kept.len() > ANSWER_BYTES_MAX {
                return Err(Failure::said(
                    Code::Unavailable,
                    "broker: an event without end",
                ));
            }
        }
        Ok(())
    }

    async fn tell(&self, answer: Bytes) {
        // Where the writer is gone the host is, too.
        drop(self.answers.send(answer).await);
    }
}

fn is_stream(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
