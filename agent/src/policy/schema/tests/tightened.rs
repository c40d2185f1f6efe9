//! What is proposed for a schema that lacks something.

use expect_test::expect;
use serde_json::{Value, json};

use super::super::tighten::tighten;

#[test]
fn a_tightened_schema_is_clean_or_says_what_is_left() {
    let document = json!({
        "type": "object",
        "properties": {
            "title": { "type": "string" },
            "labels": { "type": "array", "items": { "type": "string" } },
            "count": { "type": "integer" },
            "meta": { "type": "object", "additionalProperties": { "type": "string" } },
            "any": {}
        },
        "oneOf": [{ "required": ["title"] }, { "required": ["count"] }]
    });
    let tightened = tighten(&document).unwrap();
    let lines = |values: &[Value]| {
        values
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    expect![[r#"
        {"op":"add","path":"/unevaluatedProperties","value":false}
        {"op":"add","path":"/properties/count/minimum","value":-9007199254740991}
        {"op":"add","path":"/properties/count/maximum","value":9007199254740991}
        {"op":"add","path":"/properties/labels/maxItems","value":256}
        {"op":"add","path":"/properties/labels/items/maxLength","value":4096}
        {"op":"add","path":"/properties/meta/maxProperties","value":64}
        {"op":"add","path":"/properties/meta/propertyNames","value":{"maxLength":128}}
        {"op":"add","path":"/properties/meta/additionalProperties/maxLength","value":4096}
        {"op":"add","path":"/properties/title/maxLength","value":4096}"#]]
    .assert_eq(&lines(&tightened.changes));
    let left: Vec<&str> = tightened
        .left
        .iter()
        .map(|issue| issue.pointer.as_str())
        .collect();
    assert_eq!(left, ["/properties/any"]);
    let again = tighten(&tightened.document).unwrap();
    assert!(again.changes.is_empty());
}
