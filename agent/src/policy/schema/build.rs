//! A schema document to a validator: no remote document, formats asserted, patterns in linear time.

use std::collections::BTreeSet;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::{Draft, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SchemaError};
use crate::json::{self, Limits};

/// Bytes of one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Bytes of an error's text.
const ERROR_BYTES_MAX: usize = 300;

/// One strict JSON value.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, SchemaError> {
    let limits = Limits {
        bytes: SCHEMA_BYTES_MAX,
        depth: SCHEMA_DEPTH_MAX,
    };
    json::parse(bytes, limits).map_err(SchemaError::Json)
}

/// The validator, or why there is none.
pub(super) fn validator(document: &Value, draft: Draft) -> Result<Validator, String> {
    // References lead into this document alone; a name could only collide with another's, such as the
    // dialect's own.
    let mut document = document.clone();
    if let Some(root) = document.as_object_mut() {
        root.remove("$id");
    }
    jsonschema::options()
        .with_draft(draft.library())
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(
            PatternOptions::regex()
                .size_limit(PATTERN_BYTES_MAX)
                .dfa_size_limit(PATTERN_BYTES_MAX),
        )
        .build(&document)
        .map_err(|error| {
            let place = error.instance_path().as_str();
            let mut text = format!("#{place}: {error}");
            let end = (0..=ERROR_BYTES_MAX.min(text.len())).rfind(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or_default());
            text
        })
}

/// Every name under `properties`, wherever it stands: what a refusal may repeat.
pub(super) fn names(document: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = vec![document];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    names.extend(properties.keys().cloned());
                }
                rest.extend(map.values());
            }
            Value::Array(items) => rest.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    names
}
