//! A worker's standard error goes to the log: bounded, without anything that steers a terminal.

use tokio::{io::AsyncReadExt as _, net::unix::pipe};

/// Bytes of one session that are logged; the rest is read and counted.
const LOGGED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a line.
const LINE_BYTES_MAX: usize = 1024;
const CHUNK_BYTES: usize = 4096;

/// Logs until the worker closes it. What is beyond the bound is read too, so that no worker waits.
pub(super) async fn to_log(session: u64, tool: String, mut pipe: pipe::Receiver) {
    let (mut line, mut logged, mut dropped) = (Vec::new(), 0_usize, 0_usize);
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let read = match pipe.read(&mut chunk).await {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(session.id = session, %error, "worker's errors not read");
                break;
            }
        };
        for byte in chunk.get(..read).unwrap_or_default() {
            if logged >= LOGGED_BYTES_MAX {
                dropped = dropped.saturating_add(1);
                continue;
            }
            logged = logged.saturating_add(1);
            let ends = *byte == b'\n';
            if !ends {
                line.push(*byte);
            }
            if (ends && !line.is_empty()) || line.len() >= LINE_BYTES_MAX {
                say(session, &tool, &line);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        say(session, &tool, &line);
    }
    if dropped > 0 {
        tracing::warn!(
            session.id = session,
            session.tool = tool,
            worker.bytes_dropped = dropped,
            "worker said more than is logged"
        );
    }
}

fn say(session: u64, tool: &str, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    tracing::info!(
        session.id = session,
        session.tool = tool,
        worker.said = %line.escape_debug(),
        "worker's error output"
    );
}
