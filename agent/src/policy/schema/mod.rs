//! The JSON Schema of a verb's arguments or result: read once, linted, compiled, then asked.
//!
//! Bytes in, verdicts out: no I/O, no network, no reference to another document. What it says of a
//! refused value is a JSON pointer and a rule of the schema, never anything of the value.

mod build;
mod draft;
mod lint;
mod pointer;
mod rule;
mod shape;
pub mod tighten;

use std::{collections::BTreeSet, fmt};

use jsonschema::Validator;
use serde_json::Value;

use crate::json;

pub use self::{
    draft::Draft,
    rule::{Issue, Rule},
};

/// Bytes of a schema file.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Nesting of a schema file, as JSON.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Places that a refusal names; a hostile value has many.
pub const PLACES_MAX: usize = 16;
/// Bytes of a place's pointer; the rest is cut.
const POINTER_BYTES_MAX: usize = 256;
/// Bytes of a rule's value that a place repeats.
const RULE_BYTES_MAX: usize = 160;

/// A schema in force. Made by [`Schema::read`] only, so it was linted; what the lint found is beside it.
#[derive(Clone)]
pub struct Schema {
    document: Value,
    draft: Draft,
    digest: [u8; 32],
    names: BTreeSet<String>,
    /// The reason stands where there is no validator.
    validator: Result<Validator, String>,
}

/// Where a value does not fit, and which rule says so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// JSON pointer into the value (RFC 6901). A property that the schema does not name is `*`.
    pub pointer: String,
    /// The rule, in words of the schema: `maxLength 64`, `required "payee"`.
    pub rule: String,
}

/// Why bytes are no schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// Too many bytes.
    #[error("more than {SCHEMA_BYTES_MAX} bytes")]
    TooLarge,
    /// Not JSON, or JSON that is read in two ways.
    #[error(transparent)]
    Json(json::Error),
    /// Neither an object nor a boolean.
    #[error("a schema is an object")]
    Shape,
    /// `$schema` names something else.
    #[error("`$schema` is neither 2020-12 nor draft-07")]
    Draft,
}

/// A schema and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Linted {
    /// The schema.
    pub schema: Schema,
    /// What the lint says, by pointer: nothing where every object is closed and every value bounded.
    pub issues: Vec<Issue>,
}

impl Schema {
    /// Reads, lints and compiles a schema. One that can not be compiled refuses every value and says
    /// why in [`Schema::quarantine`].
    pub fn read(bytes: &[u8]) -> Result<Linted, SchemaError> {
        if bytes.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLarge);
        }
        let document = build::parse(bytes)?;
        if !document.is_object() {
            return Err(SchemaError::Shape);
        }
        let draft = Draft::of(&document).ok_or(SchemaError::Draft)?;
        let issues = lint::lint(&document, draft);
        // A schema that calls itself is never handed to the compiler.
        let sound = !issues.iter().any(|issue| issue.rule.is_unsound());
        let validator = if sound {
            build::validator(&document, draft)
        } else {
            Err("the schema was not compiled: its references are not sound".to_owned())
        };
        let digest = json::digest(&document);
        let schema = Self {
            names: build::names(&document),
            document,
            draft,
            digest,
            validator,
        };
        Ok(Linted { schema, issues })
    }

    /// Whether a value fits; else the first places where it does not, at most [`PLACES_MAX`].
    pub fn check(&self, value: &Value) -> Result<(), Vec<Place>> {
        let Ok(validator) = &self.validator else {
            return Err(vec![Place {
                pointer: String::new(),
                rule: "the schema can not be applied".to_owned(),
            }]);
        };
        if validator.is_valid(value) {
            return Ok(());
        }
        let mut places: Vec<Place> = validator
            .iter_errors(value)
            .take(PLACES_MAX)
            .map(|error| self.place(&error))
            .collect();
        places.dedup();
        Err(places)
    }

    /// The schema as it stands in its file.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Its dialect.
    #[must_use]
    pub fn draft(&self) -> Draft {
        self.draft
    }

    /// SHA-256 of its canonical form (RFC 8785).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Why it can not be applied to any value.
    #[must_use]
    pub fn quarantine(&self) -> Option<&str> {
        self.validator.as_ref().err().map(String::as_str)
    }

    fn place(&self, error: &jsonschema::ValidationError<'_>) -> Place {
        let mut pointer = String::new();
        for segment in error.instance_path().as_str().split('/').skip(1) {
            let index = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
            let known = index || self.names.contains(&pointer::unescaped(segment));
            pointer.push('/');
            pointer.push_str(if known { segment } else { "*" });
        }
        if pointer.len() > POINTER_BYTES_MAX {
            let end = (0..=POINTER_BYTES_MAX).rfind(|at| pointer.is_char_boundary(*at));
            pointer.truncate(end.unwrap_or_default());
        }
        let rule = self.rule(error);
        Place { pointer, rule }
    }

    /// The keyword with what the schema says there, where that is short.
    fn rule(&self, error: &jsonschema::ValidationError<'_>) -> String {
        let keyword = error.kind().keyword();
        if let jsonschema::error::ValidationErrorKind::Required { property } = error.kind() {
            return format!("{keyword} {property}");
        }
        let said = self.document.pointer(error.schema_path().as_str());
        let said = said.filter(|said| !said.is_object());
        match said.map(Value::to_string) {
            Some(said) if said.len() <= RULE_BYTES_MAX => format!("{keyword} {said}"),
            _ => keyword.to_owned(),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("draft", &self.draft)
            .field("quarantine", &self.quarantine())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
