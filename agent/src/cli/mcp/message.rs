//! What the shim must know of a message: whether it wants an answer, and what HTTP says of it in its
//! headers (MCP 2026-07-28). The bytes that go to the broker are the host's own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const ACCEPTED: &str = "application/json, text/event-stream";
/// The code of JSON-RPC for what failed in between.
const INTERNAL_ERROR: i64 = -32_603;

/// A message of the host.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: Option<Value>,
    /// Whether the host waits for an answer. For bytes that are no message it does: the broker says
    /// what is wrong with them.
    pub(super) wants_answer: bool,
    /// The request that it ends.
    pub(super) cancels: Option<Value>,
    method: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

impl Message {
    /// Looks at one line.
    pub(super) fn of(line: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(line).unwrap_or_default();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let params = value.get("params");
        let method = text(value.get("method"));
        let id = value.get("id").cloned();
        let is_cancel = method.as_deref() == Some("notifications/cancelled");
        let is_answer = value.get("result").is_some() || value.get("error").is_some();
        let is_notification = method.is_some() && id.is_none();
        let meta = params.and_then(|params| params.get("_meta"));
        Self {
            wants_answer: !is_notification && (method.is_some() || !is_answer),
            cancels: params
                .and_then(|params| params.get("requestId"))
                .filter(|_| is_cancel)
                .cloned(),
            name: text(params.and_then(|params| params.get("name"))),
            version: text(meta.and_then(|meta| meta.get(VERSION_KEY))),
            id,
            method,
        }
    }

    /// What HTTP says of it.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPTED));
        // Only the revision without a handshake has them.
        let Some(version) = &self.version else {
            return headers;
        };
        let named = self
            .name
            .as_ref()
            .filter(|_| self.method.as_deref() == Some("tools/call"));
        let said = [
            (VERSION, Some(version)),
            (METHOD, self.method.as_ref()),
            (NAME, named),
        ];
        for (header, text) in said {
            if let Some(value) = text.and_then(|text| HeaderValue::from_str(&wrapped(text)).ok()) {
                headers.insert(header, value);
            }
        }
        headers
    }
}

/// A text as a header may carry it.
fn wrapped(text: &str) -> String {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.trim() == text
        && !text.starts_with("=?base64?");
    if plain {
        text.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(text))
    }
}

/// The error that a request gets which did not reach the broker.
pub(super) fn failed(id: Option<&Value>, why: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": INTERNAL_ERROR, "message": why } })
}

#[cfg(test)]
mod tests {
    use super::{Message, wrapped};

    #[test]
    fn only_requests_want_an_answer() {
        let wants = |line: &str| Message::of(line.as_bytes()).wants_answer;
        assert!(wants(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
        assert!(!wants(
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
        ));
        assert!(!wants(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(wants("no message"), "the broker says what is wrong");
    }

    #[test]
    fn a_cancellation_names_its_request() {
        let line =
            br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert_eq!(Message::of(line).cancels, Some(7.into()));
    }

    #[test]
    fn headers_are_those_of_the_revision() {
        let old = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}"#;
        assert_eq!(Message::of(old).headers().len(), 1);
        let new = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read",
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let headers = Message::of(new).headers();
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(said("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(said("mcp-method"), Some("tools/call"));
        assert_eq!(said("mcp-name"), Some("read"));
    }

    #[test]
    fn what_no_header_holds_is_wrapped() {
        assert_eq!(wrapped("read"), "read");
        assert_eq!(wrapped("a\nb"), "=?base64?YQpi?=");
        assert_eq!(wrapped("=?base64?x?="), "=?base64?PT9iYXNlNjQ/eD89?=");
    }
}
