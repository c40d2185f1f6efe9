//! The shape of a schema, before it means anything: known keywords, references that lead somewhere in
//! this document, no schema inside itself, and no more work than a bound.
//!
//! What is refused here is never given to a compiler or a walk that follows references.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    draft::{Draft, Holds},
    pointer::join,
    rule::{Issue, Rule},
};

/// Schemas that one value may meet, references written out: beyond it a small file is slow to apply.
const EXPANDED_MAX: u64 = 20_000;
/// Schemas inside schemas, references written out: a walk holds as many frames.
const HEIGHT_MAX: u32 = 128;
const REF: &str = "$ref";
/// What gives a part of a document a name or a dialect of its own.
const NAMES: &[&str] = &[
    "$id",
    "$schema",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
];
/// Which of them the root may have.
const ROOT_NAMES: &[&str] = &["$id", "$schema"];

/// A schema in the document.
pub(super) struct Child<'a> {
    pub(super) pointer: String,
    pub(super) keyword: &'a str,
    pub(super) schema: &'a Value,
}

/// The schemas that a schema holds and applies; not those on its shelves, not what it refers to.
pub(super) fn children<'a>(
    draft: Draft,
    pointer: &str,
    schema: &'a Map<String, Value>,
) -> Vec<Child<'a>> {
    let mut out = Vec::new();
    for (keyword, value) in schema {
        let at = join(pointer, keyword);
        match (draft.keyword(keyword), value) {
            (Some(Holds::Here | Holds::Below), _)
            | (Some(Holds::BelowAny), Value::Object(_) | Value::Bool(_)) => out.push(Child {
                pointer: at,
                keyword,
                schema: value,
            }),
            (Some(Holds::HereList | Holds::BelowList | Holds::BelowAny), Value::Array(list)) => {
                out.extend(list.iter().enumerate().map(|(index, schema)| Child {
                    pointer: join(&at, &index.to_string()),
                    keyword,
                    schema,
                }));
            }
            (Some(Holds::HereMap | Holds::BelowMap), Value::Object(map)) => {
                // draft-07's `dependencies` holds lists of names too.
                let schemas = map.iter().filter(|(_, schema)| !schema.is_array());
                out.extend(schemas.map(|(name, schema)| Child {
                    pointer: join(&at, name),
                    keyword,
                    schema,
                }));
            }
            _ => {}
        }
    }
    out
}

/// What a reference leads to: its pointer and the schema there.
pub(super) fn target<'a>(document: &'a Value, reference: &Value) -> Option<(String, &'a Value)> {
    let pointer = reference.as_str()?.strip_prefix('#')?;
    let shaped = pointer.is_empty() || pointer.starts_with('/');
    // A percent sign would have to be decoded; no name that people write needs one.
    if !shaped || pointer.contains('%') {
        return None;
    }
    let schema = document.pointer(pointer)?;
    (schema.is_object() || schema.is_boolean()).then(|| (pointer.to_owned(), schema))
}

/// Everything that is wrong with the shape.
pub(super) fn check(document: &Value, draft: Draft) -> Vec<Issue> {
    let mut shape = Shape {
        document,
        draft,
        issues: Vec::new(),
        begun: HashSet::new(),
        extents: HashMap::new(),
    };
    shape.embedded();
    let Extent { schemas, height } = shape.schema("", document, 0);
    if schemas > EXPANDED_MAX || height > HEIGHT_MAX {
        shape.issue("", Rule::Size);
    }
    shape.issues
}

struct Shape<'a> {
    document: &'a Value,
    draft: Draft,
    issues: Vec<Issue>,
    begun: HashSet<String>,
    extents: HashMap<String, Extent>,
}

/// How large a schema is when references are written out.
#[derive(Clone, Copy)]
struct Extent {
    schemas: u64,
    height: u32,
}

impl Extent {
    const ONE: Self = Self {
        schemas: 1,
        height: 1,
    };

    fn holding(self, part: Self) -> Self {
        Self {
            schemas: self.schemas.saturating_add(part.schemas),
            height: self.height.max(part.height.saturating_add(1)),
        }
    }
}

impl<'a> Shape<'a> {
    fn issue(&mut self, pointer: &str, rule: Rule) {
        self.issues.push(Issue {
            pointer: pointer.to_owned(),
            rule,
        });
    }

    fn schema(&mut self, pointer: &str, schema: &'a Value, depth: u32) -> Extent {
        let map = match schema {
            Value::Object(map) => map,
            Value::Bool(_) => return Extent::ONE,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.issue(pointer, Rule::NoSchema);
                return Extent::ONE;
            }
        };
        if let Some(extent) = self.extents.get(pointer) {
            return *extent;
        }
        if depth > HEIGHT_MAX {
            self.issue("", Rule::Size);
            return Extent::ONE;
        }
        if !self.begun.insert(pointer.to_owned()) {
            self.issue(pointer, Rule::Recursion);
            return Extent::ONE;
        }
        self.keywords(pointer, map);
        let deeper = depth.saturating_add(1);
        let mut extent = Extent::ONE;
        for child in children(self.draft, pointer, map) {
            extent = extent.holding(self.schema(&child.pointer, child.schema, deeper));
        }
        if let Some(reference) = map.get(REF) {
            match target(self.document, reference) {
                Some((to, schema)) => extent = extent.holding(self.schema(&to, schema, deeper)),
                None => self.issue(&join(pointer, REF), Rule::Reference),
            }
        }
        self.extents.insert(pointer.to_owned(), extent);
        extent
    }

    /// Names that would change what a reference means, wherever they stand: also on a shelf that nothing
    /// refers to. A property of such a name holds a schema, not a text.
    fn embedded(&mut self) {
        let mut rest = vec![(String::new(), self.document)];
        while let Some((pointer, value)) = rest.pop() {
            match value {
                Value::Object(map) => {
                    for (key, value) in map {
                        let at = join(&pointer, key);
                        let root = pointer.is_empty() && ROOT_NAMES.contains(&key.as_str());
                        if value.is_string() && NAMES.contains(&key.as_str()) && !root {
                            self.issue(&at, Rule::Embedded);
                        }
                        rest.push((at, value));
                    }
                }
                Value::Array(items) => {
                    let item = |(index, item): (usize, &'a Value)| {
                        (join(&pointer, &index.to_string()), item)
                    };
                    rest.extend(items.iter().enumerate().map(item));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    }

    fn keywords(&mut self, pointer: &str, map: &Map<String, Value>) {
        let refers = self.draft == Draft::Old && map.contains_key(REF);
        for (keyword, value) in map {
            let at = join(pointer, keyword);
            match self.draft.keyword(keyword) {
                None if keyword.starts_with("x-") => {}
                None => self.issue(&at, Rule::Keyword(keyword.clone(), self.draft)),
                Some(Holds::Words | Holds::Reference | Holds::Shelf) => {}
                Some(_) if refers => self.issue(&at, Rule::Ignored),
                Some(_) if keyword == "format" => self.format(&at, value),
                Some(_) => {}
            }
        }
    }

    fn format(&mut self, pointer: &str, value: &Value) {
        let known = value
            .as_str()
            .is_some_and(|name| jsonschema::options().is_known_format(self.draft.library(), name));
        if !known {
            self.issue(pointer, Rule::Format(self.draft));
        }
    }
}
