//! The plain face against its own `OpenAPI` document, asked by `schemathesis`: whatever it is sent, it
//! does not fail, and what it answers is what the document says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::{Value, json};

use super::{Scene, bridge, text};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,missing_required_header,\
    unsupported_method";

/// Asks for a while; gives what it said. It must have found nothing.
fn ask(document: &Path, port: u16, options: &[&str]) -> String {
    let contract = lab::binary::servers("contract").expect("it is installed");
    let output = Command::new("/usr/bin/python3")
        .args(["-m", "schemathesis.cli", "run"])
        .arg(document)
        .args(["--url", &format!("http://127.0.0.1:{port}")])
        .args(["--checks", CHECKS, "--max-examples", "30", "--seed", "1"])
        .args(["--phases", "coverage,fuzzing", "--warnings", "off"])
        .args(["--suppress-health-check", "all"])
        .args(options)
        .env("PYTHONPATH", contract)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(document.parent().expect("a folder"))
        .output()
        .expect("python starts");
    let said = text(&output.stdout);
    println!("{options:?}\n{said}");
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    said
}

/// The document, with the body's schema narrowed to calls of one verb.
fn narrowed(folder: &Path, verb: &str, arguments: &Value) -> PathBuf {
    let document = fs::read_to_string(DOCUMENT).expect("the document");
    let mut document: Value = serde_json::from_str(&document).expect("JSON");
    let call = &mut document["components"]["schemas"]["Call"];
    call["properties"]["tool"] = json!({ "const": "invoice" });
    call["properties"]["verb"] = json!({ "const": verb });
    call["properties"]["arguments"] = arguments.clone();
    call["required"] = json!(["tool", "verb", "arguments"]);
    let path = folder.join(format!("{verb}.json"));
    fs::write(&path, document.to_string()).expect("written");
    path
}

#[test]
fn what_the_broker_answers_is_what_its_document_says() {
    let scene = Scene::invoice();
    let folder = scene.agent.scratch().path().to_owned();
    let alice = Arc::new(scene.caller("alice", &["invoice:read", "invoice:create"]));
    let socket = Path::new("/run").join(scene.agent.instance());
    let port = bridge::start(&socket.join("broker.sock"), alice);
    let plain = folder.join("openapi.json");
    fs::copy(DOCUMENT, &plain).expect("copied");
    // Whoever it is, with whatever headers.
    ask(&plain, port, &[]);
    // With a good token and a good proof of each body: what is behind them is asked.
    let shown = [
        "--header",
        "Authorization:DPoP @token",
        "--header",
        "DPoP:@proof",
        "--exclude-checks",
        "missing_required_header",
    ];
    ask(&plain, port, &shown);
    let id = json!({
        "type": "object", "additionalProperties": false, "required": ["id"],
        "properties": {"id": {"enum": ["INV-0A1B2C3D", "INV-00000000"]}},
    });
    let read = narrowed(&folder, "read", &id);
    ask(&read, port, &shown);
    let mut outcomes = BTreeMap::<String, u32>::new();
    for record in scene.records(&[]) {
        let outcome = record["outcome"].as_str().unwrap_or_default();
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
    }
    println!("{outcomes:?}");
    // Calls were carried out, and calls were refused.
    for outcome in ["done", "arguments_refused", "token_missing"] {
        assert!(outcomes.contains_key(outcome), "{outcome}: {outcomes:?}");
    }
    assert!(!outcomes.contains_key("internal"), "{outcomes:?}");
    scene.end();
}
