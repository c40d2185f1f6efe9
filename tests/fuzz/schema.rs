//! Schema files and the verbs of a policy that name them.

use agent::{
    json::{self, Limits},
    policy::{
        compile_with,
        schema::{Linted, Schema, tighten},
    },
};
use serde_json::{Value, json};

use crate::mutator::fuzz;

const GOOD: &[u8] = include_bytes!("../../policies/schemas/invoice/create.json");
const OLD: &[u8] = br##"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
"properties": {"a": {"$ref": "#/definitions/a"}, "b": {"type": ["string", "null"], "format": "date"},
"c": {"type": "array", "items": [{"const": 1}], "additionalItems": false}},
"additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}, "maxProperties": 4,
"propertyNames": {"maxLength": 8}, "definitions": {"a": {"anyOf": [{"enum": [1, "x"]}, {"$ref": "#/definitions/b"}]},
"b": {"type": "number", "exclusiveMinimum": -1e3, "maximum": 2.5}}}"##;
const PARTS: &[u8] = br##"{"type": "object", "unevaluatedProperties": false,
"allOf": [{"properties": {"k": {"const": "a"}}}, {"$ref": "#/$defs/m"}],
"if": {"properties": {"k": {"const": "a"}}}, "then": {"required": ["k"]},
"$defs": {"m": {"properties": {"s": {"type": "string", "maxLength": 3, "pattern": "^a+$"}}}}}"##;
const VERBS: &str = "version = 1\ntool = \"t\"\n[worker]\ncommand = [\"/usr/bin/true\"]\n\
    protocol = \"mcp\"\nreuse = \"never\"\n[filesystem]\nexecute = [\"/usr/bin\"]\n\
    [[verb]]\nname = \"v\"\nscope = \"t:v\"\narguments = \"a.json\"\nresult = \"b.json\"\n\
    unbounded = [{ path = \"/properties/note\", reason = \"text\" }]\ndurable = true\n\
    [verb.limits]\nrate = [\"10/min per user\"]\nper_day = \"9 per tool\"\nconcurrency = 2\n\
    [verb.risk]\napprove_if = [\"true\"]\n";

/// Values that any schema is asked about.
fn values() -> [Value; 6] {
    [
        json!({}),
        json!({ "a": 1, "b": "2026-01-01", "c": [1], "k": "a", "s": "aaa", "~/": null }),
        json!({ "payee": "x", "currency": "EUR", "lines": [{ "text": "t", "cents": 5 }] }),
        json!([[[[]]], "secret-value", 1.5, -0.0]),
        json!("secret-value"),
        json!({ "secret-value": { "secret-value": ["secret-value"] } }),
    ]
}

#[test]
fn a_schema_of_any_bytes_is_read_or_refused_and_never_repeats_a_value() {
    fuzz("schema", &[GOOD, OLD, PARTS], |bytes| {
        let Ok(Linted { schema, issues }) = Schema::read(bytes) else {
            return;
        };
        let text = String::from_utf8_lossy(bytes);
        for value in values() {
            let Err(places) = schema.check(&value) else {
                continue;
            };
            assert!(!places.is_empty() && places.len() <= 16, "places");
            for place in places {
                let said = format!("{} {}", place.pointer, place.rule);
                let echoed = said.contains("secret-value") && !text.contains("secret-value");
                assert!(!echoed, "a value in {said}");
            }
        }
        let again = Schema::read(&json::canonical(schema.document())).expect("its canonical form");
        assert_eq!(
            again.schema.digest(),
            schema.digest(),
            "one document, one digest"
        );
        assert_eq!(again.issues, issues, "one document, one verdict");
        let tightened = tighten::tighten(schema.document()).expect("a known dialect");
        let unexcused = |issue: &&agent::policy::schema::Issue| issue.rule.excusable();
        let (left, had) = (tightened.left.iter(), issues.iter());
        assert!(
            left.filter(unexcused).count()
                <= had.filter(unexcused).count() + tightened.changes.len(),
            "tightening loosens"
        );
    });
}

#[test]
fn verbs_of_any_text_compile_or_say_why() {
    fuzz("verbs", &[VERBS.as_bytes()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut documents = |name: &str| match name {
            "a.json" => Ok(GOOD.to_vec()),
            "b.json" => Ok(PARTS.to_vec()),
            _ => Err("not there".to_owned()),
        };
        let compiled = compile_with("fuzz.toml", &text, &mut documents);
        match compiled {
            Ok(policy) => {
                let again = compile_with("fuzz.toml", &text, &mut documents);
                let again = again.expect("the same text compiles again");
                assert_eq!(policy.digest, again.digest, "one text, one digest");
            }
            Err(error) => assert!(!error.findings().is_empty(), "an error without a finding"),
        }
    });
}

#[test]
fn the_corpus_is_good() {
    for bytes in [OLD, PARTS] {
        let Linted { schema, issues } = Schema::read(bytes).expect("a schema");
        assert_eq!((issues.len(), schema.quarantine()), (0, None));
    }
    let limits = Limits::default();
    let create = json::parse(GOOD, limits).expect("strict JSON");
    assert_eq!(create["type"], "object");
    let mut documents = |name: &str| match name {
        "a.json" => Ok(GOOD.to_vec()),
        _ => Ok(PARTS.to_vec()),
    };
    compile_with("fuzz.toml", VERBS, &mut documents).expect("good verbs");
}
