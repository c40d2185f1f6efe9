//! The doors, seen from outside: real sockets, and whatever a caller may send.

pub(crate) mod behind;
mod flood;
mod http;
mod lines;
mod mcp;
mod shown;
mod socket;

use std::{
    io::{Read as _, Write as _},
    ops::Range,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use self::behind::Behind;
use super::{Pulse, Settings, Times, serve};
use crate::{
    broker::{FrameLimits, issuer::Fetched},
    shutdown,
};

/// Longest message of the doors under test, bytes.
const BYTES_IN: usize = 64 * 1_024;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A door that is open, with no worker behind it.
pub(crate) struct Door {
    folder: TempDir,
    pub(crate) behind: Behind,
    runtime: tokio::runtime::Runtime,
    stop: shutdown::Stop,
    served: tokio::task::JoinHandle<()>,
    pulse: Pulse,
}

fn nobody() -> Range<u32> {
    0..0
}

fn quick() -> Times {
    Times {
        first_byte: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        frame: Duration::from_millis(300),
        send: Duration::from_millis(300),
    }
}

impl Door {
    pub(crate) fn open() -> Self {
        Self::with(Settings::new(nobody()))
    }

    fn with(settings: Settings) -> Self {
        Self::trusting(settings, |_| Vec::new())
    }

    /// With issuers whose keys are fetched; their files may lie in the folder.
    fn trusting(settings: Settings, fetched: impl FnOnce(&Path) -> Vec<Fetched>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, stopping) = shutdown::pair();
        let path = folder.path().join("broker.sock");
        let pulse = Pulse::default();
        let (behind, served) = runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
            let limits = FrameLimits {
                bytes_in: BYTES_IN,
                bytes_out: 1 << 20,
                depth: 64,
            };
            let behind = Behind::new(
                folder.path(),
                limits,
                fetched(folder.path()),
                stopping.clone(),
            );
            let broker = Arc::clone(&behind.broker);
            let served = serve(listener, broker, settings, stopping, pulse.clone());
            (behind, tokio::spawn(served))
        });
        Self {
            folder,
            behind,
            runtime,
            stop,
            served,
            pulse,
        }
    }

    /// Ends as the agent does; what says that all connections have ended.
    fn close(self) -> Result<(), tokio::time::error::Elapsed> {
        self.stop.now();
        let ended = async { tokio::time::timeout(PATIENCE, self.served).await };
        self.runtime
            .block_on(ended)
            .map(|served| served.expect("no panic"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Sends bytes and reads until the door closes.
    fn all(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The door may have heard enough before the end.
        drop(stream.write_all(bytes));
        rest(&mut stream)
    }

    /// The answer to one line.
    fn line(&self, line: &str) -> Value {
        let mut stream = self.connect();
        stream
            .write_all(format!("{line}\n").as_bytes())
            .expect("somebody reads");
        read_line(&mut stream)
    }

    /// The answer to one message over HTTP: status, head, body.
    fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        parts(&self.all(request.as_bytes()))
    }
}

fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // What was not read is thrown away with the connection.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no end: {error}"),
    }
    String::from_utf8(bytes).expect("text")
}

fn read_line(stream: &mut UnixStream) -> Value {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("an answer in time") == 1 && byte != *b"\n" {
        bytes.extend(byte);
    }
    serde_json::from_slice(&bytes).expect("an answer in JSON")
}

/// Status, head and JSON body of a response.
fn parts(text: &str) -> (u16, String, Value) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no response: {text:?}"));
    let body = serde_json::from_str(body).unwrap_or_default();
    (status, head.to_ascii_lowercase(), body)
}

fn code(answer: &Value) -> i64 {
    let code = answer.pointer("/error/code").and_then(Value::as_i64);
    code.unwrap_or_else(|| panic!("no error: {answer}"))
}

fn reason(answer: &Value) -> &str {
    let reason = answer.pointer("/error/data/reason").and_then(Value::as_str);
    reason.unwrap_or_else(|| panic!("no reason: {answer}"))
}

#[test]
fn the_document_of_the_plain_face_is_committed() {
    let text = serde_json::to_string_pretty(&super::openapi::document()).expect("json") + "\n";
    expect_test::expect_file!["../../../../docs/openapi.json"].assert_eq(&text);
}
