//! Verbs with their schemas: what compiles, what is refused, what is put into quarantine.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use expect_test::{Expect, expect};
use serde_json::json;

use crate::policy::{
    caution::cautions,
    compile_with,
    compiled::{CompiledPolicy, Idempotency, Reuse, Subject},
    diff, store,
};

const HEAD: &str = "version = 1\ntool = \"t\"\n[worker]\ncommand = [\"/usr/bin/true\"]\n\
                    protocol = \"mcp\"\n[filesystem]\nexecute = [\"/usr/bin\"]\n";
const CLOSED: &str = r#"{"type": "object", "additionalProperties": false}"#;
const OPEN: &str = r#"{"type": "object", "additionalProperties": false,
    "properties": {"note": {"type": "string"}, "list": {"type": "array", "items": {"type": "null"}}}}"#;
const PATTERN: &str = r#"{"type": "object", "additionalProperties": false,
    "properties": {"a": {"type": "string", "maxLength": 9, "pattern": "(?=a)"}}}"#;

fn compiled(verbs: &str) -> Result<CompiledPolicy, String> {
    let mut documents = |name: &str| match name {
        "closed.json" => Ok(CLOSED.as_bytes().to_vec()),
        "open.json" => Ok(OPEN.as_bytes().to_vec()),
        "pattern.json" => Ok(PATTERN.as_bytes().to_vec()),
        "list.json" => {
            Ok(br#"{"type": "array", "maxItems": 1, "items": {"type": "null"}}"#.to_vec())
        }
        "twice.json" => Ok(br#"{"type": "object", "type": "string"}"#.to_vec()),
        _ => Err("can not be read: No such file or directory".to_owned()),
    };
    compile_with("t.toml", &format!("{HEAD}{verbs}"), &mut documents).map_err(|error| error.plain())
}

fn verb(name: &str, rest: &str) -> String {
    format!("[[verb]]\nname = \"{name}\"\nscope = \"t:{name}\"\n{rest}\n")
}

fn refused(rest: &str, expected: &Expect) {
    expected.assert_eq(&compiled(&verb("v", rest)).unwrap_err());
}

#[test]
fn a_verb_has_its_defaults() {
    let policy = compiled(&verb("v", "arguments = \"closed.json\"")).unwrap();
    let verb = policy.verb("v").unwrap();
    assert_eq!(
        (verb.worker_tool.as_str(), verb.scope.as_str()),
        ("v", "t:v")
    );
    assert!(!verb.durable && !verb.approval && !verb.body_proof);
    assert_eq!(verb.idempotency, Idempotency::Optional);
    assert!(verb.limits.rates.is_empty() && verb.limits.per_day.is_empty());
    assert_eq!((verb.limits.concurrency, verb.limits.repeats), (32, 16));
    assert!(verb.quarantine.is_none() && verb.pin.is_none());
    assert_eq!(policy.worker.reuse, Reuse::Session);
    assert!(verb.arguments.check(&json!({})).is_ok());
    assert!(verb.arguments.check(&json!({ "a": 1 })).is_err());
    assert!(policy.verb("w").is_none() && policy.verb("").is_none());
}

#[test]
fn a_verb_has_what_it_says() {
    let text = verb(
        "v",
        "arguments = \"closed.json\"\nresult = \"list.json\"\nworker_tool = \"do.It\"\n\
         idempotency = \"required\"\nproof_body = true\ndescription = \"Does it\"\n\
         [verb.limits]\nrate = [\"10/min per user\", \"5/sec per tool\"]\nper_day = \"7 per client\"\n\
         concurrency = 2\nrepeats = 1\n[verb.risk]\napprove_if = [\"arguments.amount > 1\"]",
    );
    let policy = compiled(&text).unwrap();
    let verb = policy.verb("v").unwrap();
    assert!(verb.approval && verb.durable && verb.body_proof);
    let rates: Vec<_> = verb
        .limits
        .rates
        .iter()
        .map(|rate| (rate.count, rate.per, rate.subject))
        .collect();
    let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
    assert_eq!(
        rates,
        [(5, second, Subject::Tool), (10, minute, Subject::User)]
    );
    expect![[r#"v scope=t:v worker_tool=do.It arguments=cd1a463c46d6 result=6ff6a5e8eaff rate="5/1s per tool" rate="10/60s per user" per_day="7 per client" concurrency=2 repeats=1 idempotency=required durable=true proof_body=true approve_if="arguments.amount > 1" "Does it""#]].assert_eq(&verb.to_string());
    let durable = text.replace("proof_body = true", "durable = false");
    assert!(!compiled(&durable).unwrap().verb("v").unwrap().durable);
}

#[test]
fn the_digest_covers_every_word_of_a_verb() {
    let base = verb("v", "arguments = \"closed.json\"");
    let digest = |text: &str| compiled(text).unwrap().digest;
    let first = digest(&base);
    for other in [
        "arguments = \"list.json\"\nresult = \"list.json\"",
        "arguments = \"closed.json\"\nresult = \"list.json\"",
        "arguments = \"closed.json\"\nworker_tool = \"w\"",
        "arguments = \"closed.json\"\ndescription = \"w\"",
        "arguments = \"closed.json\"\nidempotency = \"none\"",
        "arguments = \"closed.json\"\ndurable = true",
        "arguments = \"closed.json\"\nproof_body = true",
        "arguments = \"closed.json\"\npin = \"0101010101010101010101010101010101010101010101010101010101010101\"",
        "arguments = \"closed.json\"\n[verb.limits]\nrate = \"1/min per user\"",
        "arguments = \"closed.json\"\n[verb.limits]\nper_day = \"1 per user\"",
        "arguments = \"closed.json\"\n[verb.limits]\nconcurrency = 1",
        "arguments = \"closed.json\"\n[verb.limits]\nrepeats = 1",
        "arguments = \"closed.json\"\n[verb.risk]\napprove_if = [\"true\"]",
    ] {
        let text = verb("v", other);
        let Ok(policy) = compiled(&text) else {
            assert!(other.starts_with("arguments = \"list.json\""), "{other}");
            continue;
        };
        assert_ne!(policy.digest, first, "{other}");
        let before = compiled(&base).unwrap();
        let diff = diff::policies(&before, &policy);
        assert_eq!(diff.changed.len(), 1, "{other}");
    }
    let both = format!("{base}{}", verb("u", "arguments = \"closed.json\""));
    let turned = format!("{}{base}", verb("u", "arguments = \"closed.json\""));
    assert_eq!(digest(&both), digest(&turned));
    assert_ne!(digest(&both), first);
}

#[test]
fn what_is_open_is_refused_or_has_a_reason() {
    refused(
        "arguments = \"open.json\"",
        &expect![[r#"
        t.toml:11:13: error[bad_schema]: schema `open.json` at /properties/list: the array has no `maxItems`
            11 | arguments = "open.json"
               |             ^^^^^^^^^^^
               hint: add "maxItems", or list the path under `unbounded` with a reason
        t.toml:11:13: error[bad_schema]: schema `open.json` at /properties/note: the string has no `maxLength`
            11 | arguments = "open.json"
               |             ^^^^^^^^^^^
               hint: add "maxLength", or list the path under `unbounded` with a reason
    "#]],
    );
    let excused = "arguments = \"open.json\"\nunbounded = [{ path = \"/properties/note\", reason = \"text\" }, \
                   { path = \"/properties/list\", reason = \"short\" }]";
    let policy = compiled(&verb("v", excused)).unwrap();
    let texts: Vec<String> = cautions(&policy)
        .into_iter()
        .map(|caution| caution.text)
        .collect();
    expect![[r"
        anything passes in the arguments at `/properties/list`
        anything passes in the arguments at `/properties/note`
        without a schema of its result, what the worker answers is not checked"]]
    .assert_eq(&texts.join("\n"));
    refused(
        "arguments = \"closed.json\"\nunbounded = [{ path = \"/properties/note\", reason = \"x\" }, \
         { path = \"\", reason = \"x\", schema = \"result\" }]",
        &expect![[r#"
            t.toml:12:14: error[conflict]: nothing of the arguments is open at `/properties/note`
                12 | unbounded = [{ path = "/properties/note", reason = "x" }, { path = "", reason = "x", schema = "result" }]
                   |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                   hint: drop it; the path is a JSON pointer into the schema file
            t.toml:12:59: error[conflict]: the verb has no schema of its result
                12 | unbounded = [{ path = "/properties/note", reason = "x" }, { path = "", reason = "x", schema = "result" }]
                   |                                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                   hint: drop it; the path is a JSON pointer into the schema file
        "#]],
    );
    refused(
        "arguments = \"open.json\"\nunbounded = [{ path = \"/properties\", reason = \"all of it\" }, \
         { path = \"/properties/note\", reason = \"x\", schema = \"result\" }]",
        &expect![[r#"
            t.toml:11:13: error[bad_schema]: schema `open.json` at /properties/list: the array has no `maxItems`
                11 | arguments = "open.json"
                   |             ^^^^^^^^^^^
                   hint: add "maxItems", or list the path under `unbounded` with a reason
            t.toml:11:13: error[bad_schema]: schema `open.json` at /properties/note: the string has no `maxLength`
                11 | arguments = "open.json"
                   |             ^^^^^^^^^^^
                   hint: add "maxLength", or list the path under `unbounded` with a reason
            t.toml:12:14: error[conflict]: nothing of the arguments is open at `/properties`
                12 | unbounded = [{ path = "/properties", reason = "all of it" }, { path = "/properties/note", reason = "x", schema = "result
                   |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                   hint: drop it; the path is a JSON pointer into the schema file
            t.toml:12:62: error[conflict]: the verb has no schema of its result
                12 | unbounded = [{ path = "/properties", reason = "all of it" }, { path = "/properties/note", reason = "x", schema = "result
                   |                                                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                   hint: drop it; the path is a JSON pointer into the schema file
        "#]],
    );
}

#[test]
fn a_schema_that_is_none_is_a_mistake_and_one_that_does_not_compile_is_quarantined() {
    refused(
        "arguments = \"gone.json\"",
        &expect![[r#"
        t.toml:11:13: error[bad_schema]: schema `gone.json`: can not be read: No such file or directory
            11 | arguments = "gone.json"
               |             ^^^^^^^^^^^
               hint: a relative path begins at the policy's folder
    "#]],
    );
    // What it would have been open at is not told as a second mistake.
    refused(
        "arguments = \"gone.json\"\nunbounded = [{ path = \"/properties/note\", reason = \"text\" }]",
        &expect![[r#"
        t.toml:11:13: error[bad_schema]: schema `gone.json`: can not be read: No such file or directory
            11 | arguments = "gone.json"
               |             ^^^^^^^^^^^
               hint: a relative path begins at the policy's folder
    "#]],
    );
    refused(
        "arguments = \"twice.json\"",
        &expect![[r#"
        t.toml:11:13: error[bad_schema]: schema `twice.json`: json: a key twice in one object, line 1, column 25
            11 | arguments = "twice.json"
               |             ^^^^^^^^^^^^
               hint: `stockade schema check FILE` reads one alone
    "#]],
    );
    refused(
        "arguments = \"list.json\"",
        &expect![[r#"
        t.toml:11:13: error[bad_schema]: schema `list.json`: arguments are an object
            11 | arguments = "list.json"
               |             ^^^^^^^^^^^
               hint: write "type": "object" at its root
    "#]],
    );
    let both = format!(
        "{}{}",
        verb("bad", "arguments = \"pattern.json\""),
        verb("good", "arguments = \"closed.json\"")
    );
    let policy = compiled(&both).unwrap();
    let bad = policy.verb("bad").unwrap();
    assert!(bad.quarantine.is_some() && bad.arguments.check(&json!({})).is_err());
    assert!(policy.verb("good").unwrap().quarantine.is_none());
    let said = cautions(&policy)
        .into_iter()
        .any(|caution| caution.text.contains("quarantine"));
    assert!(said);
}

#[test]
fn a_verb_needs_a_worker_that_answers() {
    let verb = verb("v", "arguments = \"closed.json\"");
    let mut documents = |_: &str| Ok(CLOSED.as_bytes().to_vec());
    let text = format!("version = 1\ntool = \"t\"\n{verb}");
    let error = compile_with("t.toml", &text, &mut documents).unwrap_err();
    expect![[r#"
        t.toml:3:1: error[conflict]: a verb needs a worker that is asked and answers
             3 | [[verb]]
               | ^^^^^^^^
               hint: write `protocol = "mcp"` or `protocol = "json"` under `[worker]`
    "#]]
    .assert_eq(&error.plain());
    let text = format!("version = 1\ntool = \"t\"\nworker.protocol = \"json\"\n{verb}");
    let error = compile_with("t.toml", &text, &mut documents).unwrap_err();
    expect![[r#"
        t.toml:4:1: error[conflict]: a verb needs a worker with a command
             4 | [[verb]]
               | ^^^^^^^^
               hint: add a line like `command = ["/opt/tool/bin/worker"]` under `[worker]`
    "#]]
    .assert_eq(&error.plain());
}

#[test]
fn too_many_verbs_are_refused() {
    let many: String = (0..129)
        .map(|at| verb(&format!("v{at}"), "arguments = \"closed.json\""))
        .collect();
    expect![[r"
        t.toml:8:1: error[out_of_bounds]: more than 128 verbs
             8 | [[verb]]
               | ^^^^^^^^
    "]]
    .assert_eq(&compiled(&many).unwrap_err());
}

/// A policy beside its schemas, as the store reads them.
fn stored(make: impl FnOnce(&Path), name: &str) -> Result<CompiledPolicy, String> {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("policies");
    fs::create_dir(&inner).unwrap();
    make(&inner);
    let text = format!("{HEAD}{}", verb("v", &format!("arguments = \"{name}\"")));
    fs::write(inner.join("t.toml"), text).unwrap();
    let place = inner.display().to_string();
    store::read_file(&inner.join("t.toml")).map_err(|error| error.to_string().replace(&place, "@"))
}

#[test]
fn the_store_reads_schemas_beside_the_policy() {
    let write = |path: std::path::PathBuf| fs::write(path, CLOSED).unwrap();
    stored(|folder| write(folder.join("a.json")), "a.json").unwrap();
    let deep = |folder: &Path| {
        fs::create_dir(folder.join("schemas")).unwrap();
        write(folder.join("schemas/a.json"));
        symlink("schemas/a.json", folder.join("a.json")).unwrap();
    };
    stored(deep, "schemas/a.json").unwrap();
    stored(deep, "a.json").unwrap();
}

#[test]
fn the_store_refuses_what_lies_outside_or_is_no_file() {
    let outside = |folder: &Path| {
        fs::write(folder.join("../a.json"), CLOSED).unwrap();
        symlink("../a.json", folder.join("a.json")).unwrap();
    };
    expect![[r#"
        @/t.toml:11:13: error[bad_schema]: schema `a.json`: it lies outside the policy's folder
            11 | arguments = "a.json"
               |             ^^^^^^^^
               hint: a relative path begins at the policy's folder"#]]
    .assert_eq(&stored(outside, "a.json").unwrap_err());
    expect![[r#"
        @/t.toml:11:13: error[bad_path]: `../a.json` is no path of a JSON Schema
            11 | arguments = "../a.json"
               |             ^^^^^^^^^^^
               hint: relative to the policy file or absolute, without `..`, ending in .json"#]]
    .assert_eq(&stored(|_| {}, "../a.json").unwrap_err());
    expect![[r#"
        @/t.toml:11:13: error[bad_schema]: schema `schemas/a.json`: can not be read: No such file or directory; looked for it at `@/schemas/a.json`
            11 | arguments = "schemas/a.json"
               |             ^^^^^^^^^^^^^^^^
               hint: a relative path begins at the policy's folder"#]]
    .assert_eq(&stored(|_| {}, "schemas/a.json").unwrap_err());
    let fifo = |folder: &Path| {
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::unistd::mkfifo(&folder.join("a.json"), mode).unwrap();
    };
    expect![[r#"
        @/t.toml:11:13: error[bad_schema]: schema `a.json`: not a regular file
            11 | arguments = "a.json"
               |             ^^^^^^^^
               hint: a relative path begins at the policy's folder"#]]
    .assert_eq(&stored(fifo, "a.json").unwrap_err());
    expect![[r#"
        @/t.toml:11:13: error[bad_schema]: schema `a.json`: not a regular file
            11 | arguments = "a.json"
               |             ^^^^^^^^
               hint: a relative path begins at the policy's folder"#]]
    .assert_eq(
        &stored(
            |folder| fs::create_dir(folder.join("a.json")).unwrap(),
            "a.json",
        )
        .unwrap_err(),
    );
    let large = |folder: &Path| fs::write(folder.join("a.json"), " ".repeat(300_000)).unwrap();
    expect![[r#"
        @/t.toml:11:13: error[bad_schema]: schema `a.json`: more than 262144 bytes
            11 | arguments = "a.json"
               |             ^^^^^^^^
               hint: `stockade schema check FILE` reads one alone"#]]
    .assert_eq(&stored(large, "a.json").unwrap_err());
}
