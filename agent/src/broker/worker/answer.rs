//! The envelope of MCP's `CallToolResult` (revisions 2025-11-25 and 2026-07-28): only what it defines
//! is kept, everything else of a worker's answer is left behind.

use serde_json::{Map, Value, json};

use super::{Answer, Failure};
use crate::broker::reason::Reason;

/// Blocks of an answer.
const BLOCKS_MAX: usize = 1024;

/// Keys that a block of each kind has: those that it must have (text), those that it may.
const BLOCKS: &[(&str, &[&str], &[&str])] = &[
    ("text", &["text"], &["annotations"]),
    ("image", &["data", "mimeType"], &["annotations"]),
    ("audio", &["data", "mimeType"], &["annotations"]),
    (
        "resource_link",
        &["uri", "name"],
        &["title", "description", "mimeType", "size", "annotations"],
    ),
    ("resource", &[], &["resource", "annotations"]),
];

/// A block of text.
pub(super) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// The answer of a tool that failed.
pub(super) fn failure(message: &str) -> Answer {
    Answer {
        content: vec![text(message)],
        structured: None,
        is_error: true,
    }
}

/// Reads the result of `tools/call`.
pub(super) fn read(result: Value) -> Result<Answer, Failure> {
    let Value::Object(mut result) = result else {
        return Err(malformed("the result is no object"));
    };
    match result.remove("resultType") {
        None => {}
        Some(Value::String(kind)) if kind == "complete" => {}
        Some(_) => return Err(malformed("the worker asks back, which nobody can answer")),
    }
    let is_error = match result.remove("isError") {
        None => false,
        Some(Value::Bool(is_error)) => is_error,
        Some(_) => return Err(malformed("`isError` is no boolean")),
    };
    let structured = match result.remove("structuredContent") {
        None => None,
        Some(structured @ Value::Object(_)) => Some(structured),
        Some(_) => return Err(malformed("`structuredContent` is no object")),
    };
    let content = match result.remove("content") {
        None => Vec::new(),
        Some(Value::Array(blocks)) if blocks.len() <= BLOCKS_MAX => blocks
            .into_iter()
            .map(block)
            .collect::<Result<Vec<_>, _>>(
        )?,
        Some(_) => {
            return Err(malformed(
                "`content` is no list of blocks, or too long a one",
            ));
        }
    };
    if content.is_empty() && structured.is_none() {
        return Err(malformed("neither `content` nor `structuredContent`"));
    }
    Ok(Answer {
        content,
        structured,
        is_error,
    })
}

fn block(block: Value) -> Result<Value, Failure> {
    let Value::Object(mut block) = block else {
        return Err(malformed("a block is no object"));
    };
    let kind = block.remove("type");
    let known = BLOCKS
        .iter()
        .find(|(name, _, _)| kind.as_ref().and_then(Value::as_str) == Some(*name));
    let Some((name, must, may)) = known else {
        return Err(malformed("a block of an unknown kind"));
    };
    let mut kept = Map::new();
    kept.insert("type".to_owned(), Value::from(*name));
    for key in *must {
        match block.remove(*key) {
            Some(value @ Value::String(_)) => kept.insert((*key).to_owned(), value),
            _ => return Err(malformed("a block lacks a text that its kind has")),
        };
    }
    for key in *may {
        if let Some(value) = block.remove(*key) {
            kept.insert((*key).to_owned(), value);
        }
    }
    if *name == "resource" && !kept.get("resource").is_some_and(is_resource) {
        return Err(malformed("a block of kind `resource` without a resource"));
    }
    Ok(Value::Object(kept))
}

fn is_resource(resource: &Value) -> bool {
    let has = |key| resource.get(key).is_some_and(Value::is_string);
    has("uri") && (has("text") || has("blob"))
}

fn malformed(what: &str) -> Failure {
    Failure::after(Reason::WorkerMalformed, what)
}
