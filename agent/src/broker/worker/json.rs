//! `json` workers: one process a call. It reads one request from its standard input, to the end, and
//! writes one answer: `{"result": …}`, or `{"error": {"message": "…"}}` where the tool failed.

use serde_json::{Map, Value, json};

use super::{Answer, Asked, Bounds, Ended, Failure, Process, answer};
use crate::broker::reason::Reason;

/// Asks a worker that was started for this call.
pub(in crate::broker) async fn ask(
    process: &mut Process,
    asked: &Asked<'_>,
    bounds: Bounds,
) -> Result<Answer, Failure> {
    let request = json!({
        "tool": asked.tool,
        "verb": asked.verb,
        "arguments": asked.arguments,
    });
    let mut line = request.to_string().into_bytes();
    line.push(b'\n');
    let output = process.ask_once(&line).await?;
    match process.ended().await {
        Ended::Well => {}
        Ended::Badly(how) => return Err(Failure::after(Reason::WorkerFailed, how)),
    }
    if output.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::after(Reason::WorkerFailed, "no answer"));
    }
    read(bounds.parse(&output)?)
}

fn read(value: Value) -> Result<Answer, Failure> {
    let malformed = |what| Failure::after(Reason::WorkerMalformed, what);
    let Value::Object(mut envelope) = value else {
        return Err(malformed("no object"));
    };
    let (result, error) = (envelope.remove("result"), envelope.remove("error"));
    if !envelope.is_empty() {
        return Err(malformed("a key that is neither `result` nor `error`"));
    }
    match (result, error) {
        (Some(result), None) => Ok(succeeded(result)),
        (None, Some(Value::Object(error))) => failed(error),
        (None | Some(_), _) => Err(malformed("not one of `result` and `error`")),
    }
}

fn succeeded(result: Value) -> Answer {
    let text = result.to_string();
    Answer {
        content: vec![answer::text(&text)],
        // MCP's structured content is an object.
        structured: result.is_object().then_some(result),
        is_error: false,
    }
}

fn failed(mut error: Map<String, Value>) -> Result<Answer, Failure> {
    let message = error.remove("message");
    match message {
        Some(Value::String(message)) if error.is_empty() => Ok(answer::failure(&message)),
        _ => Err(Failure::after(
            Reason::WorkerMalformed,
            "`error` is not {\"message\": text}",
        )),
    }
}
