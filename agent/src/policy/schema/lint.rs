//! Whether a schema bounds what it accepts: every object closed, every string, array and number with
//! an end, every value with a type.
//!
//! A sufficient rule, not a proof: what bounds a value must stand where the value's type stands, or in
//! what is referred to from there. Everything beside it only narrows and is not judged.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    Draft, Issue, Rule,
    pointer::join,
    shape::{self, Child, children, target},
};

/// Issues that are kept of one schema.
const ISSUES_MAX: usize = 200;
/// Formats whose texts have an end.
const SHORT_FORMATS: &[&str] = &["date", "uuid", "ipv4", "ipv6"];

/// Everything that a schema lacks, by place.
pub(super) fn lint(document: &Value, draft: Draft) -> Vec<Issue> {
    let mut issues = shape::check(document, draft);
    if !issues.iter().any(|issue| issue.rule.is_unsound()) {
        let mut walk = Walk {
            document,
            draft,
            issues,
            seen: HashSet::new(),
        };
        walk.value("", document);
        issues = walk.issues;
    }
    issues.sort();
    issues.dedup();
    issues.truncate(ISSUES_MAX);
    issues
}

struct Walk<'a> {
    document: &'a Value,
    draft: Draft,
    issues: Vec<Issue>,
    seen: HashSet<(String, bool)>,
}

impl<'a> Walk<'a> {
    fn issue(&mut self, pointer: &str, rule: Rule) {
        self.issues.push(Issue {
            pointer: pointer.to_owned(),
            rule,
        });
    }

    /// A schema that alone must bound the value it stands for.
    fn value(&mut self, pointer: &str, schema: &'a Value) {
        let Value::Object(map) = schema else {
            if *schema == Value::Bool(true) {
                self.issue(pointer, Rule::Untyped);
            }
            return;
        };
        if !self.seen.insert((pointer.to_owned(), false)) {
            return;
        }
        if map.contains_key("const") || map.contains_key("enum") {
            return;
        }
        if let Some(types) = map.get("type") {
            self.typed(pointer, map, types);
        } else if let Some((to, schema)) = self.reference(map) {
            self.value(&to, schema);
        } else {
            self.composed(pointer, map);
        }
    }

    fn reference(&self, map: &Map<String, Value>) -> Option<(String, &'a Value)> {
        target(self.document, map.get("$ref")?)
    }

    /// Without a type of its own: one part of `allOf`, or every one of the alternatives, gives it.
    fn composed(&mut self, pointer: &str, map: &'a Map<String, Value>) {
        let held = children(self.draft, pointer, map);
        let part = of(&held, "allOf").find(|child| stands(child.schema));
        if let Some(part) = part {
            return self.value(&part.pointer, part.schema);
        }
        let choice = ["anyOf", "oneOf"]
            .into_iter()
            .find(|keyword| of(&held, keyword).next().is_some());
        match choice {
            Some(choice) => of(&held, choice).for_each(|one| self.value(&one.pointer, one.schema)),
            None => self.issue(pointer, Rule::Untyped),
        }
    }

    fn typed(&mut self, pointer: &str, map: &'a Map<String, Value>, types: &Value) {
        let names: Vec<&str> = match types {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        let has = |name: &str| names.contains(&name);
        if has("string") {
            self.string(pointer, map);
        }
        if has("number") || has("integer") {
            self.number(pointer, map);
        }
        if has("array") {
            self.array(pointer, map);
        }
        if has("object") {
            self.object(pointer, map);
        }
    }

    fn string(&mut self, pointer: &str, map: &Map<String, Value>) {
        let format = map.get("format").and_then(Value::as_str);
        let short = format.is_some_and(|format| SHORT_FORMATS.contains(&format));
        if !short && !counts(map, "maxLength") {
            self.issue(pointer, Rule::Length);
        }
    }

    fn number(&mut self, pointer: &str, map: &Map<String, Value>) {
        let bound = |keys: [&str; 2]| {
            keys.iter()
                .any(|key| map.get(*key).is_some_and(Value::is_number))
        };
        if !bound(["minimum", "exclusiveMinimum"]) {
            self.issue(pointer, Rule::Low);
        }
        if !bound(["maximum", "exclusiveMaximum"]) {
            self.issue(pointer, Rule::High);
        }
    }

    fn array(&mut self, pointer: &str, map: &'a Map<String, Value>) {
        let (list, rest) = match self.draft {
            Draft::New => ("prefixItems", "items"),
            Draft::Old if map.get("items").is_some_and(Value::is_array) => {
                ("items", "additionalItems")
            }
            Draft::Old => ("", "items"),
        };
        let fixed = map.get(list).and_then(Value::as_array).map_or(0, Vec::len);
        let most = map.get("maxItems").and_then(Value::as_u64);
        let ends = map.get(rest) == Some(&Value::Bool(false));
        if most.is_none() && !ends {
            self.issue(pointer, Rule::Items);
        }
        let within = most.is_some_and(|most| most <= u64::try_from(fixed).unwrap_or(u64::MAX));
        for child in children(self.draft, pointer, map) {
            if child.keyword == list || child.keyword == rest {
                self.value(&child.pointer, child.schema);
            }
        }
        if !map.contains_key(rest) && !within {
            self.issue(&join(pointer, rest), Rule::Untyped);
        }
    }

    fn object(&mut self, pointer: &str, map: &'a Map<String, Value>) {
        let closed = Some(&Value::Bool(false));
        let by_parts = map.get("additionalProperties") != closed
            && self.draft == Draft::New
            && map.get("unevaluatedProperties") == closed;
        let free = match map.get("additionalProperties") {
            Some(Value::Object(rest)) if !rest.is_empty() => true,
            other => {
                if other != closed && !by_parts {
                    self.issue(pointer, Rule::Open);
                }
                by_parts && matches!(other, Some(Value::Bool(true) | Value::Object(_)))
            }
        };
        if by_parts && free {
            // It evaluates every property, so that nothing is left to refuse.
            self.issue(pointer, Rule::Open);
        }
        self.names(pointer, map, free);
        self.properties(pointer, map);
        if by_parts {
            self.parts(pointer, map);
        }
    }

    /// Names that the schema does not list must be few and short.
    fn names(&mut self, pointer: &str, map: &'a Map<String, Value>, free: bool) {
        let patterns = map
            .get("patternProperties")
            .and_then(Value::as_object)
            .is_some_and(|patterns| !patterns.is_empty());
        if !free && !patterns {
            return;
        }
        if !counts(map, "maxProperties") {
            self.issue(pointer, Rule::Properties);
        }
        let short = map.get("propertyNames").is_some_and(|names| {
            let names = names.as_object();
            names.is_some_and(|names| counts(names, "maxLength") || names.contains_key("enum"))
        });
        if !short {
            self.issue(pointer, Rule::Names);
        }
    }

    fn properties(&mut self, pointer: &str, map: &'a Map<String, Value>) {
        const VALUES: &[&str] = &["properties", "patternProperties", "additionalProperties"];
        for child in children(self.draft, pointer, map) {
            let anything = *child.schema == Value::Bool(true)
                || child.schema.as_object().is_some_and(Map::is_empty);
            // That the object is open was said already.
            let open = anything && child.keyword == "additionalProperties";
            if VALUES.contains(&child.keyword) && !open {
                self.value(&child.pointer, child.schema);
            }
        }
    }

    /// The parts of an object that `unevaluatedProperties` closes: what they name is named by it.
    fn parts(&mut self, pointer: &str, map: &'a Map<String, Value>) {
        const PARTS: &[&str] = &[
            "allOf",
            "anyOf",
            "oneOf",
            "if",
            "then",
            "else",
            "dependentSchemas",
        ];
        for child in children(self.draft, pointer, map) {
            if PARTS.contains(&child.keyword) {
                self.part(&child.pointer, child.schema);
            }
        }
        if let Some((to, schema)) = self.reference(map) {
            self.part(&to, schema);
        }
    }

    fn part(&mut self, pointer: &str, schema: &'a Value) {
        let Value::Object(map) = schema else {
            return;
        };
        if !self.seen.insert((pointer.to_owned(), true)) {
            return;
        }
        let opens = |keyword: &str| {
            map.get(keyword)
                .is_some_and(|rest| *rest != Value::Bool(false))
        };
        if opens("additionalProperties") || opens("unevaluatedProperties") {
            self.issue(pointer, Rule::Open);
        }
        self.names(pointer, map, false);
        self.properties(pointer, map);
        self.parts(pointer, map);
    }
}

fn of<'h, 'a>(held: &'h [Child<'a>], keyword: &'h str) -> impl Iterator<Item = &'h Child<'a>> {
    held.iter().filter(move |child| child.keyword == keyword)
}

fn counts(map: &Map<String, Value>, keyword: &str) -> bool {
    map.get(keyword).is_some_and(Value::is_u64)
}

/// Whether a schema says by itself which values it takes.
fn stands(schema: &Value) -> bool {
    const SAYING: &[&str] = &["type", "enum", "const", "$ref", "allOf", "anyOf", "oneOf"];
    SAYING.iter().any(|keyword| schema.get(keyword).is_some())
}
