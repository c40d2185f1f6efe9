//! The schemas of a policy's verbs: each file once, its issues against what the verb takes as open.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::Value;

use super::Builder;
use crate::policy::{
    compiled::{Unbounded, Which},
    error::{Code, Span},
    raw::{Field, Located},
    schema::{Issue, Linted, Schema},
};

/// Bytes of all schemas of a policy.
const SCHEMAS_BYTES_MAX: usize = 4 << 20;

/// Gives the bytes of a schema file, named as the policy names it, or says why not.
pub(in crate::policy) type Documents<'a> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'a;

type Read = (Arc<Schema>, Vec<Issue>);

/// Why there is no schema, in words.
#[derive(Clone)]
enum Unread {
    /// Its file can not be had.
    File(String),
    /// The file's bytes are none.
    Bytes(String),
}

/// What was read so far.
pub(super) struct Schemas<'d> {
    documents: &'d mut Documents<'d>,
    read: BTreeMap<String, Result<Read, Unread>>,
    bytes: usize,
}

/// A place that may be open, and whether it is, as far as the schema could be read.
pub(super) struct Wanted {
    pub(super) place: Unbounded,
    span: Span,
    met: std::cell::Cell<bool>,
}

impl Wanted {
    pub(super) fn new(place: Unbounded, span: Span) -> Self {
        let met = std::cell::Cell::new(false);
        Self { place, span, met }
    }
}

impl<'d> Schemas<'d> {
    pub(super) fn new(documents: &'d mut Documents<'d>) -> Self {
        Self {
            documents,
            read: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn get(&mut self, path: &str) -> Result<Read, Unread> {
        if let Some(read) = self.read.get(path) {
            return read.clone();
        }
        let read = self.read(path);
        self.read.insert(path.to_owned(), read.clone());
        read
    }

    fn read(&mut self, path: &str) -> Result<Read, Unread> {
        let bytes = (self.documents)(path).map_err(Unread::File)?;
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > SCHEMAS_BYTES_MAX {
            return Err(Unread::Bytes(format!(
                "the schemas of a policy have at most {SCHEMAS_BYTES_MAX} bytes together"
            )));
        }
        let Linted { schema, issues } =
            Schema::read(&bytes).map_err(|error| Unread::Bytes(error.to_string()))?;
        Ok((Arc::new(schema), issues))
    }
}

impl Unread {
    fn why(&self) -> &str {
        match self {
            Self::File(why) | Self::Bytes(why) => why,
        }
    }

    fn hint(&self, path: &str) -> &'static str {
        match self {
            Self::File(_) if Path::new(path).is_relative() => {
                "a relative path begins at the policy's folder"
            }
            Self::File(_) | Self::Bytes(_) => "`stockade schema check FILE` reads one alone",
        }
    }
}

impl Builder<'_, '_> {
    pub(super) fn schema(
        &mut self,
        which: Which,
        field: Field<String>,
        open: &[Wanted],
    ) -> Option<Arc<Schema>> {
        let schema = self.linted(which, field, open);
        if schema.is_none() {
            // Of a schema that could not be read nobody knows what is open.
            let unknown = open.iter().filter(|wanted| wanted.place.schema == which);
            unknown.for_each(|wanted| wanted.met.set(true));
        }
        schema
    }

    fn linted(
        &mut self,
        which: Which,
        field: Field<String>,
        open: &[Wanted],
    ) -> Option<Arc<Schema>> {
        let Located { value: path, span } = self.required("verb", which.word(), field)?;
        if !shaped(&path) {
            let message = format!("`{}` is no path of a JSON Schema", path.escape_debug());
            let hint = "relative to the policy file or absolute, without `..`, ending in .json";
            self.findings.hinted(Code::BadPath, span, message, hint);
            return None;
        }
        let (schema, issues) = match self.schemas.get(&path) {
            Ok(read) => read,
            Err(unread) => {
                let message = format!("schema `{path}`: {}", unread.why());
                let hint = unread.hint(&path);
                self.findings.hinted(Code::BadSchema, span, message, hint);
                return None;
            }
        };
        let root = schema.document().get("type");
        if which == Which::Arguments && root != Some(&Value::from("object")) {
            let message = format!("schema `{path}`: arguments are an object");
            let hint = "write \"type\": \"object\" at its root";
            self.findings.hinted(Code::BadSchema, span, message, hint);
        }
        for issue in &issues {
            let listed = open
                .iter()
                .filter(|wanted| issue.rule.excusable() && wanted.place.schema == which)
                .find(|wanted| wanted.place.path == issue.pointer);
            match listed {
                Some(wanted) => wanted.met.set(true),
                None => self.issue(&path, span, issue),
            }
        }
        Some(schema)
    }

    fn issue(&mut self, path: &str, span: Span, issue: &Issue) {
        let place = if issue.pointer.is_empty() {
            "its root"
        } else {
            &issue.pointer
        };
        let message = format!("schema `{path}` at {place}: {}", issue.rule.message());
        let mut hint = issue.rule.hint();
        if issue.rule.excusable() {
            hint.push_str(", or list the path under `unbounded` with a reason");
        }
        self.findings.hinted(Code::BadSchema, span, message, hint);
    }

    /// A place that is listed as open and is not: the schema changed, or the path is another.
    pub(super) fn unused(&mut self, open: &[Wanted], result: bool) {
        for wanted in open.iter().filter(|wanted| !wanted.met.get()) {
            let Unbounded { schema, path, .. } = &wanted.place;
            let message = if *schema == Which::Result && !result {
                "the verb has no schema of its result".to_owned()
            } else {
                format!("nothing of the {} is open at `{path}`", schema.word())
            };
            let hint = "drop it; the path is a JSON pointer into the schema file";
            self.findings
                .hinted(Code::Conflict, wanted.span, message, hint);
        }
    }
}

fn shaped(path: &str) -> bool {
    let inside = !path.split('/').any(|part| part == ".." || part == ".");
    let file = Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "json");
    inside && file && path.len() <= 4_096 && !path.chars().any(char::is_control)
}
