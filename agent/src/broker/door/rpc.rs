//! JSON-RPC 2.0 as MCP uses it: from one strict JSON value to a request, a notification or a refusal,
//! and the envelopes of what goes back.
//!
//! It knows no method. Batches are refused: no revision of MCP but one has them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    broker::{
        FrameLimits,
        call::Credentials,
        reason::{Reason, Refused},
    },
    json,
};

/// Prefix of the broker's own keys in `_meta`.
pub const META_PREFIX: &str = "stockade/";
/// Longest text that names a request or its progress, bytes.
pub const ID_BYTES_MAX: usize = 256;
/// Longest name of a method, bytes.
pub const METHOD_BYTES_MAX: usize = 128;

const AUTHORIZATION: &str = "stockade/authorization";
const PROOF: &str = "stockade/dpop";

/// What names a request: a text or a whole number.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(untagged)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// A text of at most [`ID_BYTES_MAX`] bytes.
    Text(String),
}

impl Id {
    /// Reads one.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Number),
            Value::String(text) if text.len() <= ID_BYTES_MAX => Some(Self::Text(text.clone())),
            Value::Null
            | Value::Bool(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }
}

/// A message of a caller.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// It wants an answer.
    Request {
        /// Its name.
        id: Id,
        /// What it asks for.
        method: String,
        /// With what.
        params: Map<String, Value>,
    },
    /// It wants none.
    Notification {
        /// What it tells.
        method: String,
        /// With what.
        params: Map<String, Value>,
    },
    /// An answer; the broker asks callers for nothing.
    Response,
}

/// A message that is none.
#[derive(Clone, PartialEq, Debug)]
pub struct Malformed {
    /// Name of the request, where it can be read.
    pub id: Option<Id>,
    /// Why.
    pub refused: Refused,
}

/// Reads one message from its bytes.
pub fn parse(bytes: &[u8], limits: FrameLimits) -> Result<Value, Refused> {
    let limits = json::Limits {
        bytes: limits.bytes_in,
        depth: limits.depth,
    };
    json::parse(bytes, limits).map_err(|error| {
        let reason = match error {
            json::Error::Long(_) => Reason::FrameTooLarge,
            json::Error::Deep { .. } => Reason::JsonTooDeep,
            json::Error::DuplicateKey { .. } => Reason::JsonDuplicateKey,
            json::Error::Number(_) => Reason::JsonNumber,
            json::Error::Objects
            | json::Error::Encoding(_)
            | json::Error::NoCharacter { .. }
            | json::Error::Malformed { .. } => Reason::JsonMalformed,
        };
        Refused::because(reason, error)
    })
}

/// Tells what a value is. Unknown keys are refused.
pub fn read(value: Value) -> Result<Message, Malformed> {
    let Value::Object(mut object) = value else {
        return Err(malformed(None, "not an object (batches are not taken)"));
    };
    let version = object.remove("jsonrpc");
    let (id, method) = (object.remove("id"), object.remove("method"));
    let params = object.remove("params");
    let name = id.as_ref().and_then(Id::of);
    if version.as_ref().and_then(Value::as_str) != Some("2.0") {
        return Err(malformed(name, "`jsonrpc` is not `2.0`"));
    }
    let Some(method) = method else {
        let answers = object.contains_key("result") || object.contains_key("error");
        return if answers && object.len() == 1 && params.is_none() {
            Ok(Message::Response)
        } else {
            Err(malformed(name, "no `method`"))
        };
    };
    let method = match method.as_str() {
        Some(method) if method.len() <= METHOD_BYTES_MAX => method.to_owned(),
        _ => return Err(malformed(name, "`method` is no text, or too long")),
    };
    if !object.is_empty() {
        return Err(malformed(name, "a key that JSON-RPC does not know"));
    }
    let params = match params {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(malformed(name, "`params` is no object")),
    };
    match (id, name) {
        (None, _) => Ok(Message::Notification { method, params }),
        (Some(_), Some(id)) => Ok(Message::Request { id, method, params }),
        (Some(_), None) => Err(malformed(None, "`id` is neither text nor whole number")),
    }
}

fn malformed(id: Option<Id>, detail: &str) -> Malformed {
    let refused = Refused::because(Reason::RequestMalformed, detail);
    Malformed { id, refused }
}

/// Takes what the caller shows of itself out of `params._meta`, so that nothing behind sees it.
///
/// What is left is what a proof's body digest is of, where the proof rides in the body: the SHA-256
/// of its canonical form (RFC 8785). A proof can not hold the digest of itself.
pub fn take_credentials(message: &mut Value) -> Result<Credentials, Refused> {
    let meta = message
        .get_mut("params")
        .and_then(|params| params.get_mut("_meta"))
        .and_then(Value::as_object_mut);
    let Some(meta) = meta else {
        return Ok(Credentials::default());
    };
    let mut text = |key: &str| match meta.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refused::because(Reason::RequestMalformed, key)),
    };
    let (authorization, proof) = (text(AUTHORIZATION)?, text(PROOF)?);
    let token = authorization.map(|text| token(&text)).transpose()?;
    Ok(Credentials { token, proof })
}

/// The token of an `Authorization` (RFC 9449, 7.1).
pub(super) fn token(authorization: &str) -> Result<String, Refused> {
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("dpop") => Ok(token.trim().to_owned()),
        _ => Err(Refused::because(
            Reason::TokenMissing,
            "the scheme of the authorization is not DPoP",
        )),
    }
}

/// A result in its envelope.
#[must_use]
pub fn result(id: &Id, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An error in its envelope.
#[must_use]
pub fn error(id: Option<&Id>, code: i64, message: &str, data: Option<&Value>) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(object), Some(data)) = (error.as_object_mut(), data) {
        object.insert("data".to_owned(), data.clone());
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// A notification in its envelope.
#[must_use]
pub fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}
