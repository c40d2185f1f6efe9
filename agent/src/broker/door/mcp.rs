//! The face of MCP towards callers, of both eras: the revisions with a handshake (2025-11-25 and
//! before) and the stateless one (2026-07-28). From a method and its params to what is asked of the
//! broker, and from what it lists to tools.
//!
//! Nothing is remembered between two messages, in neither era.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{
    answer::Refusal,
    rpc::{Id, META_PREFIX},
};
use crate::broker::{
    call::Listed,
    reason::{Reason, Refused},
};

/// The revision without a handshake.
pub(super) const MODERN: &str = "2026-07-28";
/// Revisions with a handshake; the first is what a caller of an unknown one is offered.
pub(super) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Longest name of a tool that a caller may send, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest value of the broker's own keys, bytes. What a key may look like is the broker's matter.
const OWN_VALUE_BYTES_MAX: usize = 512;
/// Longest cursor, bytes.
const CURSOR_BYTES_MAX: usize = 512;
/// Tools of one page.
const PAGE_TOOLS: usize = 256;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";
/// How long a caller may keep what the broker says of itself, milliseconds.
const DISCOVERED_TTL_MS: u32 = 3_600_000;
/// How long it may keep a list: a push or a revocation holds at once, so not at all.
const LISTED_TTL_MS: u32 = 0;

/// Which kind of MCP a message is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Era {
    /// With a handshake.
    Legacy,
    /// Without.
    Modern,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Something that the door knows by itself.
    Answer(Value),
    /// The tools, after this one (its full name).
    List { after: Option<String> },
    /// A call.
    Call(Call),
    /// A method that is not spoken.
    Unknown,
}

/// A call as MCP words it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) tool: String,
    pub(super) verb: String,
    pub(super) arguments: Value,
    pub(super) progress_token: Option<Value>,
    pub(super) idempotency_key: Option<String>,
    pub(super) prompt_hash: Option<String>,
}

impl Era {
    /// The era of a request by its own words.
    pub(super) fn of(method: &str, params: &Map<String, Value>) -> Result<Self, Refusal> {
        let meta = match params.get("_meta") {
            None => None,
            Some(Value::Object(meta)) => Some(meta),
            Some(_) => return Err(bad("`_meta` is no object")),
        };
        let version = meta.and_then(|meta| meta.get(VERSION_KEY));
        let Some(version) = version else {
            if method == "server/discover" {
                return Err(bad("no protocol version in `_meta`"));
            }
            return Ok(Self::Legacy);
        };
        let Some(version) = version.as_str() else {
            return Err(bad("the protocol version is no text"));
        };
        if version != MODERN {
            return Err(unsupported(version));
        }
        let capabilities = meta.and_then(|meta| meta.get(CAPABILITIES_KEY));
        if !capabilities.is_some_and(Value::is_object) {
            return Err(bad("no client capabilities in `_meta`"));
        }
        Ok(Self::Modern)
    }

    /// A result with what every result of the era has.
    pub(super) fn complete(self, mut result: Value) -> Value {
        if let (Self::Modern, Some(object)) = (self, result.as_object_mut()) {
            object.insert("resultType".to_owned(), "complete".into());
            let meta = object.entry("_meta").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert(SERVER_KEY.to_owned(), server());
            }
        }
        result
    }
}

/// The refusal of a version that is not spoken, with those that are.
pub(super) fn unsupported(requested: &str) -> Refusal {
    let shown: String = requested
        .chars()
        .filter(char::is_ascii_graphic)
        .take(32)
        .collect();
    Refusal::from(Reason::ProtocolVersion)
        .with(json!({ "supported": versions(), "requested": shown }))
}

/// Reads a request. `scope` is the tool that the address names, if it names one.
pub(super) fn read(
    method: &str,
    params: Map<String, Value>,
    era: Era,
    scope: Option<&str>,
) -> Result<Asked, Refusal> {
    Ok(match (method, era) {
        ("initialize", Era::Legacy) => Asked::Answer(initialized(&params)),
        ("ping", Era::Legacy) => Asked::Answer(json!({})),
        ("server/discover", Era::Modern) => Asked::Answer(discovered()),
        ("tools/list", _) => Asked::List {
            after: params.get("cursor").map(cursor).transpose()?,
        },
        ("tools/call", _) => Asked::Call(call(params, scope)?),
        _ => Asked::Unknown,
    })
}

/// Which request a `notifications/cancelled` names.
pub(super) fn cancelled(method: &str, params: &Map<String, Value>) -> Option<Id> {
    let is_cancel = method == "notifications/cancelled";
    let id = params.get("requestId").filter(|_| is_cancel)?;
    Id::of(id)
}

fn initialized(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let version = LEGACY
        .into_iter()
        .find(|version| Some(*version) == asked)
        .unwrap_or(LEGACY[0]);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": server(),
    })
}

fn discovered() -> Value {
    json!({
        "supportedVersions": versions(),
        "capabilities": { "tools": {} },
        "serverInfo": server(),
        "ttlMs": DISCOVERED_TTL_MS,
        "cacheScope": "public",
    })
}

fn server() -> Value {
    json!({ "name": "stockade", "version": env!("CARGO_PKG_VERSION") })
}

fn versions() -> Vec<&'static str> {
    std::iter::once(MODERN).chain(LEGACY).collect()
}

fn call(mut params: Map<String, Value>, scope: Option<&str>) -> Result<Call, Refusal> {
    let (name, arguments) = (params.remove("name"), params.remove("arguments"));
    let meta = params.remove("_meta");
    // A task, an answer to a question that was never asked: nothing that could be left out unsaid.
    if !params.is_empty() {
        return Err(bad("a param that the call does not have"));
    }
    let name = match name {
        Some(Value::String(name)) if name.len() <= NAME_BYTES_MAX => name,
        _ => return Err(bad("`name` is no text, or too long")),
    };
    let arguments = match arguments {
        None => Value::Object(Map::new()),
        Some(arguments @ Value::Object(_)) => arguments,
        Some(_) => return Err(bad("`arguments` is no object")),
    };
    let meta = match meta {
        Some(Value::Object(meta)) => meta,
        _ => Map::new(),
    };
    let own = |key: &str| match meta.get(&format!("{META_PREFIX}{key}")) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= OWN_VALUE_BYTES_MAX => Ok(Some(text.clone())),
        Some(_) => Err(bad("a key of the broker's is no text, or too long")),
    };
    let known = ["idempotencyKey", "promptHash"];
    let mut others = meta.keys().filter_map(|key| key.strip_prefix(META_PREFIX));
    if others.any(|key| !known.contains(&key)) {
        return Err(bad("a key of the broker's that there is not"));
    }
    let (tool, verb) = match scope {
        Some(tool) => (tool, name.as_str()),
        // Neither tools nor verbs have a dot in their names.
        None => name.split_once('.').unwrap_or(("", &name)),
    };
    Ok(Call {
        tool: tool.to_owned(),
        verb: verb.to_owned(),
        arguments,
        progress_token: progress_token(meta.get("progressToken"))?,
        idempotency_key: own("idempotencyKey")?,
        prompt_hash: own("promptHash")?,
    })
}

fn progress_token(token: Option<&Value>) -> Result<Option<Value>, Refusal> {
    match token {
        None => Ok(None),
        Some(token) if Id::of(token).is_some() => Ok(Some(token.clone())),
        Some(_) => Err(bad("`progressToken` is neither text nor whole number")),
    }
}

/// One page of tools, in the order of their names, and the cursor of the next one.
pub(super) fn listed(
    mut verbs: Vec<Listed>,
    era: Era,
    scope: Option<&str>,
    after: Option<&str>,
    bytes_max: usize,
) -> Value {
    let full = |listed: &Listed| format!("{}.{}", listed.tool, listed.verb);
    verbs.sort_by_cached_key(full);
    let mut tools = Vec::new();
    let mut bytes = 0_usize;
    let mut last: Option<String> = None;
    let mut next = None;
    for listed in verbs {
        let name = full(&listed);
        if after.is_some_and(|after| name.as_str() <= after) {
            continue;
        }
        let tool = tool(listed, era, scope);
        bytes = bytes.saturating_add(tool.to_string().len());
        // One tool at least, however long: no page is empty but the last.
        if last.is_some() && (tools.len() >= PAGE_TOOLS || bytes > bytes_max) {
            next = last.map(|name| URL_SAFE_NO_PAD.encode(name));
            break;
        }
        tools.push(tool);
        last = Some(name);
    }
    let mut result = json!({ "tools": tools });
    if let Some(object) = result.as_object_mut() {
        if let Some(next) = next {
            object.insert("nextCursor".to_owned(), next.into());
        }
        if era == Era::Modern {
            object.insert("ttlMs".to_owned(), LISTED_TTL_MS.into());
            object.insert("cacheScope".to_owned(), "private".into());
        }
    }
    era.complete(result)
}

fn tool(listed: Listed, era: Era, scope: Option<&str>) -> Value {
    let Listed {
        tool,
        verb,
        description,
        arguments,
        result,
    } = listed;
    let name = match scope {
        Some(_) => verb,
        None => format!("{tool}.{verb}"),
    };
    let mut shown = json!({ "name": name, "description": description, "inputSchema": arguments });
    // The older revisions know only objects as structured results.
    let result = result.filter(|schema| era == Era::Modern || is_object_schema(schema));
    if let (Some(object), Some(schema)) = (shown.as_object_mut(), result) {
        object.insert("outputSchema".to_owned(), schema);
    }
    shown
}

fn is_object_schema(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}

fn cursor(value: &Value) -> Result<String, Refusal> {
    let text = value.as_str().filter(|text| text.len() <= CURSOR_BYTES_MAX);
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| bad("the cursor is none of ours"))
}

fn bad(detail: &str) -> Refusal {
    Refusal::from(&Refused::because(Reason::RequestMalformed, detail))
}
