//! Schemas in, issues and refusals out.

mod tightened;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::Schema;

fn issues(document: &Value) -> Vec<String> {
    let linted = Schema::read(document.to_string().as_bytes()).unwrap();
    let quarantine = linted
        .schema
        .quarantine()
        .map(|why| format!("quarantine {why}"));
    linted
        .issues
        .iter()
        .map(|issue| format!("{}: {}", issue.pointer, issue.rule.message()))
        .chain(quarantine)
        .collect()
}

fn lints(document: &Value, expected: &Expect) {
    expected.assert_eq(&issues(document).join("\n"));
}

fn places(document: &Value, value: &Value) -> String {
    let linted = Schema::read(document.to_string().as_bytes()).unwrap();
    let places = linted.schema.check(value).unwrap_err();
    let lines: Vec<String> = places
        .iter()
        .map(|place| format!("{}: {}", place.pointer, place.rule))
        .collect();
    lines.join("\n")
}

fn invoice() -> Value {
    json!({
        "type": "object",
        "properties": {
            "payee": { "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Z]" },
            "amount": { "type": "number", "minimum": 0, "maximum": 1_000_000 },
            "due": { "type": "string", "format": "date" },
            "lines": {
                "type": "array", "maxItems": 3,
                "items": { "type": "string", "maxLength": 8 }
            }
        },
        "required": ["payee", "amount"],
        "additionalProperties": false
    })
}

#[test]
fn a_closed_and_bounded_schema_has_no_issue() {
    lints(&invoice(), &expect![""]);
    lints(
        &json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": { "a": { "$ref": "#/definitions/a" } },
            "additionalProperties": false,
            "definitions": { "a": { "type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 9 } }
        }),
        &expect![""],
    );
}

#[test]
fn a_refusal_names_place_and_rule_and_never_the_value() {
    let value = json!({
        "amount": "SECRET-1",
        "payee": "secret-payee",
        "due": "SECRET-2",
        "lines": ["SECRET-3-IS-LONG"],
        "SECRET-4": 1
    });
    let said = places(&invoice(), &value);
    assert!(!said.to_lowercase().contains("secret"), "{said}");
    expect![[r#"
        /amount: type "number"
        /due: format "date"
        /lines/0: maxLength 8
        /payee: pattern "^[A-Z]"
        : additionalProperties false"#]]
    .assert_eq(&said);
    expect![[r#": type "object""#]].assert_eq(&places(&invoice(), &json!([])));
}

#[test]
fn the_name_of_a_free_property_is_not_repeated() {
    let document = json!({
        "type": "object", "maxProperties": 4, "propertyNames": { "maxLength": 20 },
        "additionalProperties": { "type": "integer", "minimum": 0, "maximum": 9 }
    });
    lints(&document, &expect![""]);
    expect!["/*: maximum 9"].assert_eq(&places(&document, &json!({ "SECRET": 10 })));
    let long = json!({ "SECRET-SECRET-SECRET-SECRET": 1 });
    assert!(!places(&document, &long).contains("SECRET"));
}

#[test]
fn places_are_few() {
    let document = json!({
        "type": "array", "maxItems": 100_000,
        "items": { "type": "integer", "minimum": 0, "maximum": 1 }
    });
    let many: Vec<Value> = (0..50_000).map(|_| json!("x")).collect();
    let linted = Schema::read(document.to_string().as_bytes()).unwrap();
    assert_eq!(linted.schema.check(&json!(many)).unwrap_err().len(), 16);
}

#[test]
fn what_is_open_is_found() {
    lints(
        &json!({
            "type": "object",
            "properties": {
                "text": { "type": "string" },
                "any": {},
                "yes": true,
                "count": { "type": "integer", "minimum": 0 },
                "list": { "type": "array", "items": { "type": "string", "format": "email" } },
                "bag": { "type": "object", "additionalProperties": { "type": "boolean" } },
                "loose": { "type": "object", "additionalProperties": {} },
                "tuple": { "type": "array", "prefixItems": [{ "type": "null" }] },
                "either": { "anyOf": [{ "type": "string", "maxLength": 1 }, { "type": "string" }] },
                "narrowed": { "allOf": [{ "maxLength": 3 }, { "type": "string" }] },
                "typed": { "type": "string", "anyOf": [{ "maxLength": 3 }, { "const": "x" }] },
                "patterned": {
                    "type": "object", "additionalProperties": false,
                    "patternProperties": { "^x": { "type": "null" } }
                }
            }
        }),
        &expect![[r"
            : the object is not closed
            /properties/any: any value is taken here: no `type`, `enum` or `const`
            /properties/bag: an object with free names has no `maxProperties`
            /properties/bag: free names have no greatest length
            /properties/count: the number has no `maximum`
            /properties/either/anyOf/1: the string has no `maxLength`
            /properties/list: the array has no `maxItems`
            /properties/list/items: the string has no `maxLength`
            /properties/loose: the object is not closed
            /properties/narrowed/allOf/1: the string has no `maxLength`
            /properties/patterned: an object with free names has no `maxProperties`
            /properties/patterned: free names have no greatest length
            /properties/text: the string has no `maxLength`
            /properties/tuple: the array has no `maxItems`
            /properties/tuple/items: any value is taken here: no `type`, `enum` or `const`
            /properties/typed: the string has no `maxLength`
            /properties/yes: any value is taken here: no `type`, `enum` or `const`"]],
    );
}

#[test]
fn an_object_closed_over_its_parts_is_closed() {
    let document = |parts: Value| {
        let mut document = json!({
            "type": "object",
            "properties": { "kind": { "enum": ["a", "b"] } },
            "unevaluatedProperties": false,
            "$defs": { "more": { "properties": { "b": { "type": "string" } } } }
        });
        document["anyOf"] = parts;
        document
    };
    lints(
        &document(
            json!([{ "properties": { "a": { "type": "boolean" } } }, { "required": ["kind"] }]),
        ),
        &expect![""],
    );
    lints(
        &document(json!([{ "additionalProperties": true }, { "$ref": "#/$defs/more" }])),
        &expect![[r"
            /$defs/more/properties/b: the string has no `maxLength`
            /anyOf/0: the object is not closed"]],
    );
}

#[test]
fn what_would_be_ignored_is_an_issue() {
    lints(
        &json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object", "additionalProperties": false,
            "properties": {
                "a": { "$ref": "#/definitions/a", "maxLength": 3 },
                "b": { "type": "string", "maxLenght": 3 },
                "c": { "type": "string", "format": "uuid" },
                "d": { "type": "array", "maxItems": 2, "prefixItems": [], "items": { "const": 1 } },
                "e": { "$ref": "other.json#/x" },
                "f": { "$ref": "https://example.com/x.json" }
            },
            "definitions": { "a": { "type": "string" } }
        }),
        &expect![[r"
            /properties/a/maxLength: beside `$ref`, draft-07 ignores this
            /properties/b/maxLenght: `maxLenght` is no keyword of draft-07
            /properties/c/format: this format is not checked in draft-07
            /properties/d/prefixItems: `prefixItems` is no keyword of draft-07
            /properties/e/$ref: the reference leads to no schema of this document
            /properties/f/$ref: the reference leads to no schema of this document
            quarantine the schema was not compiled: its references are not sound"]],
    );
    lints(
        &json!({
            "type": "string", "maxLength": 3, "$dynamicRef": "#x", "unevaluatedItems": false,
            "format": "colour", "x-note": 1
        }),
        &expect![[r"
            /$dynamicRef: `$dynamicRef` is no keyword of 2020-12
            /format: this format is not checked in 2020-12
            quarantine the schema was not compiled: its references are not sound"]],
    );
}

#[test]
fn a_schema_inside_itself_or_too_large_is_never_compiled() {
    lints(
        &json!({ "$ref": "#" }),
        &expect![[r"
        : the schema holds itself
        quarantine the schema was not compiled: its references are not sound"]],
    );
    lints(
        &json!({
            "type": "object", "additionalProperties": false,
            "properties": { "next": { "$ref": "#" } }
        }),
        &expect![[r"
            : the schema holds itself
            quarantine the schema was not compiled: its references are not sound"]],
    );
    let mut doubling = serde_json::Map::new();
    for level in 0..40 {
        let next = format!("#/$defs/l{}", level + 1);
        let schema = json!({ "anyOf": [{ "$ref": next }, { "$ref": next }] });
        doubling.insert(format!("l{level}"), schema);
    }
    doubling.insert("l40".to_owned(), json!({ "const": 1 }));
    lints(
        &json!({ "$ref": "#/$defs/l0", "$defs": doubling }),
        &expect![[r"
            : too large when its references are written out
            quarantine the schema was not compiled: its references are not sound"]],
    );
    let mut chain = serde_json::Map::new();
    for level in 0..4_000 {
        chain.insert(
            format!("l{level}"),
            json!({ "$ref": format!("#/$defs/l{}", level + 1) }),
        );
    }
    chain.insert("l4000".to_owned(), json!({ "const": 1 }));
    lints(
        &json!({ "$ref": "#/$defs/l0", "$defs": chain }),
        &expect![[r"
            : too large when its references are written out
            quarantine the schema was not compiled: its references are not sound"]],
    );
    // Read from its end, where every step is known already when the next is looked at.
    let mut properties = serde_json::Map::new();
    for level in 0..400 {
        let at = format!("a{:04}", 1_000 - level);
        let below = format!("#/properties/a{:04}", 1_001 - level);
        let schema = if level == 0 {
            json!({ "const": 1 })
        } else {
            json!({ "$ref": below })
        };
        properties.insert(at, schema);
    }
    let document = json!({
        "type": "object", "additionalProperties": false, "properties": properties
    });
    lints(
        &document,
        &expect![[r"
        : too large when its references are written out
        quarantine the schema was not compiled: its references are not sound"]],
    );
}

#[test]
fn a_schema_that_does_not_compile_refuses_everything() {
    let document = json!({ "type": "string", "maxLength": 9, "pattern": "^(?=a)b" });
    let linted = Schema::read(document.to_string().as_bytes()).unwrap();
    assert!(linted.issues.is_empty());
    expect![[r#"#/pattern: "^(?=a)b" is not a "regex""#]]
        .assert_eq(linted.schema.quarantine().unwrap());
    assert!(linted.schema.check(&json!("a")).is_err());
    let wrong = json!({ "type": "strnig", "maxLength": 9 });
    let linted = Schema::read(wrong.to_string().as_bytes()).unwrap();
    assert!(linted.schema.quarantine().is_some());
    assert!(linted.schema.check(&json!("a")).is_err());
}

#[test]
fn bytes_that_are_no_schema() {
    let refused = |bytes: &[u8]| Schema::read(bytes).unwrap_err().to_string();
    let said = [
        refused(b"{\"type\": \"string\""),
        refused(b"{\"type\": \"string\", \"type\": \"object\"}"),
        refused(b"true"),
        refused(b"{\"$schema\": \"http://json-schema.org/draft-04/schema#\"}"),
        refused(&vec![b' '; 300_000]),
        refused("[".repeat(100_000).as_bytes()),
    ];
    expect![[r"
        json: malformed at line 1, column 17
        json: a key twice in one object, line 1, column 25
        a schema is an object
        `$schema` is neither 2020-12 nor draft-07
        more than 262144 bytes
        json: nested deeper than 64 at byte 64"]]
    .assert_eq(&said.join("\n"));
}

#[test]
fn equal_documents_have_equal_digests() {
    let digest = |text: &str| Schema::read(text.as_bytes()).unwrap().schema.digest();
    let one = digest(r#"{"type": "string", "maxLength": 3}"#);
    assert_eq!(one, digest(r#"{ "maxLength":3,"type":"string" }"#));
    assert_ne!(one, digest(r#"{"type": "string", "maxLength": 4}"#));
}

#[test]
fn names_and_anchors_that_move_references_are_refused() {
    lints(
        &json!({
            "$id": "https://json-schema.org/draft/2020-12/schema",
            "$ref": "#/$defs/a",
            "$defs": {
                "a": { "type": "string", "maxLength": 3 },
                "unused": { "$id": "https://elsewhere.example/", "$anchor": "x" }
            }
        }),
        &expect![[r"
            /$defs/unused/$anchor: only the root has a name or a dialect of its own
            /$defs/unused/$id: only the root has a name or a dialect of its own
            quarantine the schema was not compiled: its references are not sound"]],
    );
    let named = json!({
        "$id": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/a",
        "$defs": { "a": { "type": "string", "maxLength": 3 } }
    });
    lints(&named, &expect![""]);
    expect![": maxLength 3"].assert_eq(&places(&named, &json!("long")));
    let property = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "$id": { "type": "string", "maxLength": 3 }, "$ref": { "type": "null" } }
    });
    lints(&property, &expect![""]);
    let linted = Schema::read(property.to_string().as_bytes()).unwrap();
    linted
        .schema
        .check(&json!({ "$id": "a", "$ref": null }))
        .unwrap();
}

/// What a check costs, for the numbers of the docs.
#[test]
fn the_cost_of_a_check_is_small() {
    let linted = Schema::read(invoice().to_string().as_bytes()).unwrap();
    let value = json!({ "payee": "Acme", "amount": 12, "due": "2026-01-01", "lines": ["a", "b"] });
    let begin = std::time::Instant::now();
    for _ in 0..10_000 {
        linted.schema.check(&value).unwrap();
    }
    println!("check: {:?} a call", begin.elapsed() / 10_000);
}
