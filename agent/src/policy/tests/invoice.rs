//! The worked example of verbs: its policies, and what its worker answers against their schemas.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    json,
    policy::{
        compiled::{CompiledPolicy, Reuse},
        store,
    },
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

fn policy(name: &str) -> CompiledPolicy {
    store::read_file(&folder().join(name)).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs the example's worker with these lines.
fn worker(words: &[&str], input: &str) -> Vec<Value> {
    let mut child = Command::new("/usr/bin/python3")
        .arg("-I")
        .arg(folder().join("workers/invoice.py"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn create() -> Value {
    json!({
        "payee": "Example Ltd", "currency": "EUR", "due": "2026-12-01", "note": "thanks",
        "lines": [{ "text": "one", "cents": 100 }, { "text": "two", "cents": 19 }]
    })
}

#[test]
fn the_verbs_are_what_they_say() {
    let policy = policy("invoice.toml");
    let names: Vec<&str> = policy.verbs.iter().map(|verb| verb.name.as_str()).collect();
    assert_eq!(names, ["create", "read", "write-off"]);
    assert!(policy.verb("write-off").unwrap().approval);
    assert!(policy.verb("create").unwrap().durable);
    let mcp = self::policy("invoice-mcp.toml");
    assert_eq!(mcp.worker.reuse, Reuse::Session);
    assert_eq!(mcp.verb("read").unwrap().worker_tool, "read_invoice");
}

#[test]
fn the_json_worker_answers_what_the_schemas_say() {
    let policy = policy("invoice.toml");
    for (name, arguments) in [
        ("create", create()),
        ("read", json!({ "id": "INV-0A1B2C3D" })),
    ] {
        let verb = policy.verb(name).unwrap();
        verb.arguments.check(&arguments).unwrap();
        let request =
            json!({ "tool": "invoice", "verb": verb.worker_tool, "arguments": arguments });
        let answers = worker(&[], &request.to_string());
        assert_eq!(answers.len(), 1);
        verb.result
            .as_ref()
            .unwrap()
            .check(&answers[0]["result"])
            .unwrap();
    }
    let request =
        json!({ "tool": "invoice", "verb": "read", "arguments": { "id": "INV-00000000" } });
    let answers = worker(&[], &request.to_string());
    assert_eq!(
        answers,
        [json!({ "error": { "message": "there is no such invoice" } })]
    );
}

#[test]
fn the_mcp_worker_lists_the_pinned_tools_and_answers() {
    let policy = policy("invoice-mcp.toml");
    let ask = |id: u32, method: &str, params: Value| {
        format!(
            "{}\n",
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
        )
    };
    let input = [
        ask(
            1,
            "initialize",
            json!({ "protocolVersion": "2025-11-25", "capabilities": {} }),
        ),
        format!(
            "{}\n",
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
        ),
        ask(2, "tools/list", json!({})),
        ask(
            3,
            "tools/call",
            json!({ "name": "create_invoice", "arguments": create() }),
        ),
        ask(
            4,
            "tools/call",
            json!({ "name": "read_invoice", "arguments": { "id": "INV-00000000" } }),
        ),
        ask(5, "server/discover", json!({})),
    ];
    let answers = worker(&["--mcp"], &input.concat());
    assert_eq!(answers.len(), 5);
    for tool in answers[1]["result"]["tools"].as_array().unwrap() {
        let verb = policy
            .verbs
            .iter()
            .find(|verb| verb.worker_tool == tool["name"])
            .unwrap();
        assert_eq!(verb.pin, Some(json::digest(tool)), "{}", verb.name);
    }
    let created = &answers[2]["result"]["structuredContent"];
    policy
        .verb("create")
        .unwrap()
        .result
        .as_ref()
        .unwrap()
        .check(created)
        .unwrap();
    assert_eq!(answers[3]["result"]["isError"], true);
    assert_eq!(answers[4]["error"]["code"], -32601);
}

#[test]
fn arguments_beside_the_schema_are_refused() {
    let policy = policy("invoice.toml");
    let schema = &policy.verb("create").unwrap().arguments;
    schema.check(&create()).unwrap();
    let with = |key: &str, value: Value| {
        let mut arguments = create();
        arguments[key] = value;
        arguments
    };
    for bad in [
        with("payee", json!("x".repeat(81))),
        with("payee", json!(7)),
        with("currency", json!("eur")),
        with("due", json!("2026-02-30")),
        with("due", json!("tomorrow")),
        with("lines", json!([])),
        with("lines", json!([{ "text": "a", "cents": "1" }])),
        with("lines", json!([{ "text": "a", "cents": 1.5 }])),
        with("lines", json!([{ "text": "a", "cents": 1, "discount": 2 }])),
        with("lines", json!(vec![json!({ "text": "a", "cents": 1 }); 21])),
        with("approved", json!(true)),
        json!([]),
        json!(null),
    ] {
        assert!(schema.check(&bad).is_err(), "{bad}");
    }
}
