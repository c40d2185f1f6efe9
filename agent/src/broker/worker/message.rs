//! JSON-RPC 2.0 as a worker speaks it: told apart strictly, one object a line.

use serde_json::{Map, Value, json};

use super::Failure;
use crate::broker::reason::Reason;

/// "Method not found" (JSON-RPC 2.0, 5.1).
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

/// What a worker said.
pub(super) enum Message {
    /// It answers.
    Result { id: u64, result: Value },
    /// It answers with an error.
    Error { id: u64, code: i64, message: String },
    /// It asks.
    Request { id: Value, method: String },
    /// It tells.
    Notification { method: String, params: Value },
}

/// Tells a message apart.
pub(super) fn read(value: Value) -> Result<Message, Failure> {
    let Value::Object(mut object) = value else {
        return Err(malformed("a message is no object"));
    };
    if object.remove("jsonrpc") != Some(Value::from("2.0")) {
        return Err(malformed("a message is not of JSON-RPC 2.0"));
    }
    let id = object.remove("id");
    match object.remove("method") {
        Some(Value::String(method)) => Ok(match id {
            Some(id @ (Value::String(_) | Value::Number(_))) => Message::Request { id, method },
            Some(_) => return Err(malformed("the id of a request is neither text nor number")),
            None => Message::Notification {
                method,
                params: object.remove("params").unwrap_or(Value::Null),
            },
        }),
        Some(_) => Err(malformed("a method is no text")),
        None => answer(id.as_ref(), object),
    }
}

fn answer(id: Option<&Value>, mut object: Map<String, Value>) -> Result<Message, Failure> {
    let Some(id) = id.and_then(Value::as_u64) else {
        return Err(malformed("the id of an answer is none that was asked with"));
    };
    match (object.remove("result"), object.remove("error")) {
        (Some(result), None) => Ok(Message::Result { id, result }),
        (None, Some(error)) => {
            let code = error.get("code").and_then(Value::as_i64);
            let message = error.get("message").and_then(Value::as_str);
            let (Some(code), Some(message)) = (code, message) else {
                return Err(malformed("an error without code or message"));
            };
            Ok(Message::Error {
                id,
                code,
                message: message.to_owned(),
            })
        }
        (None | Some(_), _) => Err(malformed("an answer is not one of `result` and `error`")),
    }
}

/// A request, as a line.
pub(super) fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// A notification, as a line.
pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

/// The answer to a request of the worker: `ping` is answered, nothing else is offered to it.
pub(super) fn reply(id: &Value, method: &str) -> Vec<u8> {
    if method == "ping" {
        return line(&json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }
    let error = json!({"code": METHOD_NOT_FOUND, "message": "not offered"});
    line(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn malformed(what: &str) -> Failure {
    Failure::after(Reason::WorkerMalformed, what)
}
