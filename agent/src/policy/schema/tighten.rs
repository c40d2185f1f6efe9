//! Proposes what a schema lacks: the same document with every object closed and every value bounded,
//! and the changes one by one (JSON Patch, RFC 6902).
//!
//! The bounds are guesses to be looked at: generous for people's data, small beside what the broker
//! takes at most.

use serde_json::{Map, Value, json};

use super::{Draft, Issue, Rule, lint, pointer::join};

/// Characters of a string.
const LENGTH: u64 = 4_096;
/// Items of an array.
const ITEMS: u64 = 256;
/// Properties with free names.
const PROPERTIES: u64 = 64;
/// Characters of a free name.
const NAME_LENGTH: u64 = 128;
/// The largest whole number that every JSON reader keeps exactly (RFC 7493).
const NUMBER: i64 = (1 << 53) - 1;
/// Rounds until nothing changes: closing one object shows no other, so one is enough, and one looks.
const ROUNDS: usize = 3;

/// A proposal.
#[derive(Clone, Debug)]
pub struct Tightened {
    /// The schema with the changes.
    pub document: Value,
    /// The changes: operations of a JSON Patch.
    pub changes: Vec<Value>,
    /// What only a person can decide.
    pub left: Vec<Issue>,
}

/// Tightens a schema document; `None` where its dialect is not known.
#[must_use]
pub fn tighten(document: &Value) -> Option<Tightened> {
    let draft = Draft::of(document)?;
    let mut document = document.clone();
    let mut changes = Vec::new();
    for _ in 0..ROUNDS {
        let before = changes.len();
        for issue in lint::lint(&document, draft) {
            changes.extend(fix(&mut document, draft, &issue));
        }
        if changes.len() == before {
            break;
        }
    }
    let left = lint::lint(&document, draft);
    Some(Tightened {
        document,
        changes,
        left,
    })
}

fn fix(document: &mut Value, draft: Draft, issue: &Issue) -> Option<Value> {
    let schema = document.pointer_mut(&issue.pointer)?.as_object_mut()?;
    let (keyword, value) = match &issue.rule {
        Rule::Open => closing(schema, draft)?,
        Rule::Properties => ("maxProperties", json!(PROPERTIES)),
        Rule::Names => ("propertyNames", json!({ "maxLength": NAME_LENGTH })),
        Rule::Length => ("maxLength", json!(LENGTH)),
        Rule::Items => ("maxItems", json!(ITEMS)),
        Rule::Low => ("minimum", json!(-NUMBER)),
        Rule::High => ("maximum", json!(NUMBER)),
        Rule::Untyped
        | Rule::NoSchema
        | Rule::Keyword(..)
        | Rule::Ignored
        | Rule::Format(_)
        | Rule::Embedded
        | Rule::Reference
        | Rule::Recursion
        | Rule::Size => return None,
    };
    // Something is there already and was not enough: a person decides.
    let open = keyword == "additionalProperties";
    if schema.contains_key(keyword) && !open {
        return None;
    }
    let operation = if schema.contains_key(keyword) {
        "replace"
    } else {
        "add"
    };
    schema.insert(keyword.to_owned(), value.clone());
    let path = join(&issue.pointer, keyword);
    Some(json!({ "op": operation, "path": path, "value": value }))
}

/// What closes an object. Where other parts of it name properties too, the newer dialect's keyword that
/// sees them.
fn closing(schema: &Map<String, Value>, draft: Draft) -> Option<(&'static str, Value)> {
    const PARTS: &[&str] = &[
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "then",
        "else",
        "dependentSchemas",
    ];
    let parts = PARTS.iter().any(|keyword| schema.contains_key(*keyword));
    match draft {
        Draft::New if parts && !schema.contains_key("additionalProperties") => {
            Some(("unevaluatedProperties", Value::Bool(false)))
        }
        // It would refuse what the parts name.
        Draft::Old if parts => None,
        Draft::New | Draft::Old => Some(("additionalProperties", Value::Bool(false))),
    }
}
