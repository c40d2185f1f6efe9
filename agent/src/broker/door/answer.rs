//! What the broker says, in the words of MCP. Nothing of it is decided here, and the detail of a
//! refusal, which is for the host's people, has no way out.

use serde_json::{Map, Value, json};

use super::{
    challenge::{is_for_the_model, rpc_code},
    mcp::Era,
    rpc::{self, Id},
};
use crate::broker::{
    call::{Done, Reply},
    reason::{Reason, Refused},
};

/// A refusal as a caller may see it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refusal {
    /// Why.
    pub(super) reason: Reason,
    /// Seconds after which to ask again.
    pub(super) retry_after: Option<u64>,
    /// The nonce of the next proof.
    pub(super) nonce: Option<String>,
    pub(super) places: Vec<(String, String)>,
    pub(super) record: Option<u64>,
    /// What MCP wants beside, for one code: the versions that are spoken.
    pub(super) more: Option<Value>,
}

impl From<&Refused> for Refusal {
    fn from(refused: &Refused) -> Self {
        Self {
            reason: refused.reason,
            // Rounded up: who comes at the second that is named comes late enough.
            retry_after: refused
                .retry_after
                .map(|after| after.as_secs().saturating_add(1)),
            nonce: None,
            places: Vec::new(),
            record: None,
            more: None,
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::from(&Refused::from(reason))
    }
}

impl Refusal {
    /// What a reply says, if it is no result.
    pub(super) fn of(reply: Reply) -> Result<Done, Self> {
        match reply {
            Reply::Done(done) => Ok(done),
            Reply::Refused {
                refused,
                places,
                nonce,
                record,
            } => Err(Self {
                nonce,
                places,
                record,
                ..Self::from(&refused)
            }),
        }
    }

    /// With more for programs.
    pub(super) fn with(self, more: Value) -> Self {
        let more = Some(more);
        Self { more, ..self }
    }

    /// For programs: the members of `data`, of `_meta` and of the plain face.
    pub(super) fn facts(&self) -> Map<String, Value> {
        let mut facts = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                facts.insert(key.to_owned(), value);
            }
        };
        put("reason", Some(self.reason.code().into()));
        put("retryAfter", self.retry_after.map(Value::from));
        put("record", self.record.map(Value::from));
        put("nonce", self.nonce.clone().map(Value::from));
        if !self.places.is_empty() {
            let place = |(pointer, rule): &(String, String)| json!({ "at": pointer, "rule": rule });
            put("places", Some(self.places.iter().map(place).collect()));
        }
        if let Some(Value::Object(more)) = &self.more {
            for (key, value) in more {
                put(key, Some(value.clone()));
            }
        }
        facts
    }

    /// The refusal as the error that a request gets.
    pub(super) fn error(&self, id: Option<&Id>) -> Value {
        let data = Value::Object(self.facts());
        rpc::error(
            id,
            rpc_code(self.reason),
            self.reason.sentence(),
            Some(&data),
        )
    }

    /// The refusal as the answer to a call: a result for the model where it can do something about
    /// it, else an error.
    pub(super) fn answer(&self, id: &Id, era: Era) -> Value {
        if !is_for_the_model(self.reason) {
            return self.error(Some(id));
        }
        let mut text = self.reason.sentence().to_owned();
        for (pointer, rule) in &self.places {
            let root = if pointer.is_empty() {
                "(root)"
            } else {
                pointer
            };
            text = format!("{text}\n{root}: {rule}");
        }
        if let Some(seconds) = self.retry_after {
            text = format!("{text}\nask again in {seconds} s");
        }
        let result = json!({
            "content": [{ "type": "text", "text": text }],
            "isError": true,
            "_meta": own(self.facts()),
        });
        rpc::result(id, &era.complete(result))
    }
}

/// A result as the answer to a call. `nonce` is told where there is no header for it.
pub(super) fn done(id: &Id, era: Era, done: Done, nonce: Option<String>) -> Value {
    let Done {
        mut content,
        structured,
        is_error,
        replayed,
        record,
        took,
    } = done;
    let mut facts = Map::new();
    facts.insert("record".to_owned(), record.into());
    facts.insert("seconds".to_owned(), took.as_secs_f64().into());
    if replayed {
        facts.insert("replayed".to_owned(), true.into());
    }
    if let Some(nonce) = nonce {
        facts.insert("nonce".to_owned(), nonce.into());
    }
    // Callers of a revision without structured results read the text.
    if let (true, Some(structured)) = (content.is_empty(), &structured) {
        content.push(json!({ "type": "text", "text": structured.to_string() }));
    }
    let mut result = json!({ "content": content, "isError": is_error, "_meta": own(facts) });
    let structured = structured.filter(|value| era == Era::Modern || value.is_object());
    if let (Some(object), Some(structured)) = (result.as_object_mut(), structured) {
        object.insert("structuredContent".to_owned(), structured);
    }
    rpc::result(id, &era.complete(result))
}

/// The params of a progress notification; none where the worker's words make none.
///
/// Only numbers pass. A worker's message would reach the caller beside every check of its result.
pub(super) fn progress(token: &Value, said: &Value) -> Option<Value> {
    let number = |key: &str| said.get(key).filter(|value| value.is_number()).cloned();
    let mut params = Map::new();
    params.insert("progressToken".to_owned(), token.clone());
    params.insert("progress".to_owned(), number("progress")?);
    if let Some(total) = number("total") {
        params.insert("total".to_owned(), total);
    }
    let params = Value::Object(params);
    Some(rpc::notification("notifications/progress", &params))
}

/// Keys under the broker's own prefix.
fn own(facts: Map<String, Value>) -> Map<String, Value> {
    facts
        .into_iter()
        .map(|(key, value)| (format!("{}{key}", rpc::META_PREFIX), value))
        .collect()
}
