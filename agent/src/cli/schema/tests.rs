//! The verbs as a shell would call them.

use std::path::Path;

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
        &expect![""],
    );
    check("check @/good.json", &files, Code::Ok, &expect![""]);
}

#[test]
fn tighten_prints_the_schema_or_the_patch() {
    let files = [("open.json", OPEN)];
    check("tighten @/open.json", &files, Code::Finding, &expect![""]);
    check(
        "tighten --patch @/open.json",
        &files,
        Code::Finding,
        &expect![""],
    );
}

#[test]
fn a_file_that_is_none_is_an_error() {
    let line = Line::try_parse_from(["schema", "check", "/dev/zero"]).unwrap();
    let error = format!("{:#}", line.verb.answer().unwrap_err());
    assert_eq!(error, "schema `/dev/zero`: not a regular file");
    assert!(Path::new("/dev/zero").exists());
}
