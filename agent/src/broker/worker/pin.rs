//! What a worker lists, by name, and the sum that a policy pins.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Failure;
use crate::{
    broker::reason::{Reason, Refused},
    json,
    policy::compiled::Digest,
};

/// Tools that a worker may list.
pub(super) const TOOLS_MAX: usize = 1024;

/// What makes up a tool's definition: whatever a model or a caller is told of it.
const PINNED: &[&str] = &[
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
];

/// The tools that a worker listed, with the sum of each.
#[derive(Default)]
pub(super) struct Tools(BTreeMap<String, [u8; 32]>);

impl Tools {
    /// Adds a page of `tools/list`; tells whether there is a further one.
    pub(super) fn add(&mut self, mut page: Value) -> Result<Option<String>, Failure> {
        let Some(Value::Array(tools)) = page.get_mut("tools").map(Value::take) else {
            return Err(malformed("`tools/list` lists nothing"));
        };
        for tool in tools {
            let Value::Object(tool) = tool else {
                return Err(malformed("a listed tool is no object"));
            };
            let Some(name) = tool.get("name").and_then(Value::as_str) else {
                return Err(malformed("a listed tool has no name"));
            };
            let name = name.to_owned();
            if self.0.len() >= TOOLS_MAX || self.0.insert(name, sum(tool)).is_some() {
                return Err(malformed("a tool is listed twice, or too many are"));
            }
        }
        match page.get_mut("nextCursor").map(Value::take) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(cursor)) => Ok(Some(cursor)),
            Some(_) => Err(malformed("`nextCursor` is no text")),
        }
    }

    /// Whether a tool is what its policy says.
    pub(super) fn check(&self, name: &str, pin: Option<[u8; 32]>) -> Result<(), Refused> {
        let Some(sum) = self.0.get(name) else {
            let detail = format!("the worker lists no tool `{}`", name.escape_debug());
            return Err(Refused::because(Reason::ToolPin, detail));
        };
        match pin {
            Some(pin) if pin != *sum => Err(Refused::because(
                Reason::ToolPin,
                format!(
                    "tool `{}` is now {}, pinned as {}",
                    name.escape_debug(),
                    Digest(*sum),
                    Digest(pin)
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// SHA-256 over the canonical form of the pinned keys.
fn sum(mut tool: Map<String, Value>) -> [u8; 32] {
    tool.retain(|key, _| PINNED.contains(&key.as_str()));
    json::digest(&Value::Object(tool))
}

fn malformed(what: &str) -> Failure {
    Failure::before(Reason::WorkerMalformed, what)
}
