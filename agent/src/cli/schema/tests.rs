//! The verbs as a shell would call them.

use clap::Parser;
use expect_test::{Expect, expect};

use super::SchemaCommand;
use crate::exit::Code;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    verb: SchemaCommand,
}

fn check(line: &str, files: &[(&str, &str)], code: Code, expected: &Expect) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let place = folder.path().display().to_string();
    let words = line.split(' ').map(|word| word.replace('@', &place));
    let line = Line::try_parse_from(std::iter::once("schema".to_owned()).chain(words)).unwrap();
    let answer = line.verb.answer().unwrap();
    assert_eq!(answer.code, code);
    let text = format!("{}{}", answer.out, answer.err);
    expected.assert_eq(&text.replace(&place, "@"));
}

const OPEN: &str = r#"{"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}"#;

#[test]
fn check_says_what_is_open() {
    let good = r#"{"type": "string", "maxLength": 3}"#;
    let bad = r#"{"type": "string", "maxLength": 3, "pattern": "(?=a)"}"#;
    let files = [
        ("good.json", good),
        ("open.json", OPEN),
        ("bad.json", bad),
        ("no.json", "{"),
    ];
    check(
        "check @/good.json @/open.json @/bad.json @/no.json",
        &files,
        Code::Finding,
        &expect![[r#"
            ok  @/good.json  2020-12, 52d01b6bf65131eed6cedbc9515d5912bf251ffd9a2e438fdd7d811331e26d5d
            bad  @/open.json  2020-12
                #: the object is not closed
                    hint: add "additionalProperties": false
                #/properties/a: the string has no `maxLength`
                    hint: add "maxLength"
                #/properties/b: any value is taken here: no `type`, `enum` or `const`
                    hint: say which type it has
            bad  @/bad.json  2020-12
                can not be applied: #/pattern: "(?=a)" is not a "regex"
            bad  @/no.json  json: malformed at line 1, column 1
        "#]],
    );
    check(
        "check @/good.json",
        &files,
        Code::Ok,
        &expect![[r"
        ok  @/good.json  2020-12, 52d01b6bf65131eed6cedbc9515d5912bf251ffd9a2e438fdd7d811331e26d5d
    "]],
    );
}

#[test]
fn tighten_prints_the_schema_or_the_patch() {
    let files = [("open.json", OPEN)];
    check(
        "tighten @/open.json",
        &files,
        Code::Finding,
        &expect![[r#"
        {
          "additionalProperties": false,
          "properties": {
            "a": {
              "maxLength": 4096,
              "type": "string"
            },
            "b": {}
          },
          "type": "object"
        }
        2 changes
            /additionalProperties: false
            /properties/a/maxLength: 4096
        left to decide:
            #/properties/b: any value is taken here: no `type`, `enum` or `const`
                hint: say which type it has
    "#]],
    );
    check(
        "tighten --patch @/open.json",
        &files,
        Code::Finding,
        &expect![[r#"
            [
              {
                "op": "add",
                "path": "/additionalProperties",
                "value": false
              },
              {
                "op": "add",
                "path": "/properties/a/maxLength",
                "value": 4096
              }
            ]
            2 changes
                /additionalProperties: false
                /properties/a/maxLength: 4096
            left to decide:
                #/properties/b: any value is taken here: no `type`, `enum` or `const`
                    hint: say which type it has
        "#]],
    );
}

#[test]
fn a_file_that_is_none_is_a_finding() {
    let files = [("good.json", r#"{"type": "null"}"#), ("no.json", "{")];
    check(
        "check @/gone.json @/good.json /dev/zero",
        &files,
        Code::Finding,
        &expect![[r"
            bad  @/gone.json  can not be read: No such file or directory
            ok  @/good.json  2020-12, bcde375ebd4cbacf651311181173836b169d5a360c6ac158c6a2cdaf49be3f61
            bad  /dev/zero  not a regular file
        "]],
    );
    check(
        "tighten @/gone.json",
        &files,
        Code::Finding,
        &expect![[r"
            error: schema `@/gone.json`: can not be read: No such file or directory
        "]],
    );
    check(
        "tighten @/no.json",
        &files,
        Code::Finding,
        &expect![[r"
            error: schema `@/no.json`: json: malformed at line 1, column 1
        "]],
    );
}
