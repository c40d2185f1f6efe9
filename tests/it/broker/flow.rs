//! The whole way, with the `invoice` example: by hand and by the command line.

use std::{fs, thread, time::Duration};

use lab::{agent::METRICS, metrics};
use serde_json::{Value, json};

use super::{Scene, caller::body, text};

fn invoice() -> Value {
    json!({
        "payee": "Example Ltd",
        "currency": "EUR",
        "lines": [{"text": "One thing", "cents": 1200}],
        "note": "the secret word is swordfish"
    })
}

#[test]
fn a_call_from_the_command_line_to_the_record() {
    let scene = Scene::invoice();
    let folder = scene.agent.scratch().path().to_owned();
    let (key, token) = (folder.join("proof.pem"), folder.join("token"));
    let (key, token) = (key.to_str().expect("text"), token.to_str().expect("text"));
    let made = std::process::Command::new(lab::binary::stockade().expect("the binary is built"))
        .args(["token", "key", key])
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let who = ["--subject", "alice", "--client", "orchestrator"];
    let what = [
        "--tool",
        "invoice",
        "--scope",
        "invoice:create",
        "--key",
        key,
    ];
    let issued = scene.said(["token", "issue"], &[who.as_slice(), &what].concat());
    fs::write(token, issued.trim()).expect("a file");
    let arguments = invoice().to_string();
    let shown = ["--key", key, "--token-file", token, "--json"];
    let call = |arguments: &str, idempotency: &str| {
        let options = ["--arguments", arguments, "--idempotency-key", idempotency];
        let words = ["invoice", "create"];
        let all = [words.as_slice(), &options, &shown].concat();
        let mut command = scene.agent.verb(&["call"]).expect("the binary is built");
        let output = command.args(all).output().expect("it runs");
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{output:?}\n{}", scene.agent.log()));
        (output.status.code(), said)
    };
    let (code, first) = call(&arguments, "order-4711");
    assert_eq!(code, Some(0), "{first}");
    assert_eq!(first["structured"]["cents"], 1200, "{first}");
    assert_eq!(first["replayed"], false);
    let (code, again) = call(&arguments, "order-4711");
    assert_eq!((code, &again["replayed"]), (Some(0), &json!(true)));
    assert_eq!(again["structured"], first["structured"]);
    let (_, other) = call(&arguments.replace("1200", "1300"), "order-4711");
    assert_eq!(other["reason"], "idempotency_conflict", "{other}");
    let (_, wrong) = call(&arguments.replace("1200", "\"swordfish\""), "order-4712");
    assert_eq!(wrong["reason"], "arguments_refused");
    assert_eq!(wrong["places"][0]["at"], "/lines/0/cents", "{wrong}");
    assert!(!wrong.to_string().contains("swordfish"), "{wrong}");
    let mine = scene.records(&["--user", "alice"]);
    let outcomes: Vec<_> = mine.iter().map(ToString::to_string).collect();
    for outcome in ["done", "idempotency_conflict", "arguments_refused"] {
        let found = outcomes.iter().any(|record| record.contains(outcome));
        assert!(found, "{outcome}: {outcomes:#?}");
    }
    let journal = fs::read_to_string(scene.agent.journal()).expect("the journal");
    assert!(!journal.contains("swordfish"), "payloads are not recorded");
    assert!(
        !journal.contains("Example Ltd"),
        "payloads are not recorded"
    );
    scene.end();
}

#[test]
fn an_operator_needs_no_token_of_their_own() {
    let scene = Scene::invoice();
    let arguments = r#"{"id": "INV-0A1B2C3D"}"#;
    let mut command = scene.agent.verb(&["call"]).expect("the binary is built");
    let output = command
        .args(["invoice", "read", "--arguments", arguments])
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stderr),
        scene.agent.log()
    );
    assert!(text(&output.stdout).contains("Example Ltd"));
    scene.end();
}

#[test]
fn who_may_not_is_refused_and_recorded() {
    let scene = Scene::invoice();
    let alice = scene.caller("alice", &["invoice:read"]);
    let found = alice.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    assert!(found.is_done(), "{found:?}\n{}", scene.agent.log());
    assert_eq!(found.structured()["state"], "open");
    let absent = alice.call("invoice", "read", json!({"id": "INV-00000000"}));
    assert_eq!(
        (absent.status, &absent.body["isError"]),
        (200, &json!(true))
    );

    // Unknown and forbidden look alike.
    let forbidden = alice.call("invoice", "create", invoice());
    let unknown = alice.call("invoice", "nothing", json!({}));
    let elsewhere = alice.call("nothing", "read", json!({}));
    for answer in [&forbidden, &unknown, &elsewhere] {
        assert_eq!(answer.reason(), "unknown_or_forbidden", "{answer:?}");
        assert_eq!(answer.status, 403);
    }
    // A token that is another's does not go with this key.
    let mallory = scene
        .caller("mallory", &["invoice:read"])
        .with_token_of(&alice);
    let stolen = mallory.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    assert_eq!((stolen.status, stolen.reason()), (401, "proof_key"));
    // A proof is for one body, once.
    let (one, two) = (
        body("invoice", "read", json!({"id": "INV-0A1B2C3D"}), None),
        body("invoice", "read", json!({"id": "INV-00000000"}), None),
    );
    let proof = alice.proof(&one);
    assert_eq!(alice.send(&two, &proof).reason(), "proof_body");
    assert!(alice.send(&one, &proof).is_done());
    assert_eq!(alice.send(&one, &proof).reason(), "proof_replayed");
    // A token for other arguments, for another tool, for a verb that wants a person's word.
    let bound = scene.caller_of("alice", &["invoice:read"], &["--tool", "invoice-mcp"]);
    let refused = bound.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    assert_eq!(refused.reason(), "token_tool");
    let approver = scene.caller("alice", &["invoice:write-off"]);
    let write_off = json!({"id": "INV-0A1B2C3D"});
    let refused = approver.call_once("invoice", "write-off", write_off, Some("k-1"));
    assert_eq!(refused.reason(), "approval_required");
    let creator = scene.caller("alice", &["invoice:create"]);
    let refused = creator.call("invoice", "create", invoice());
    assert_eq!(refused.reason(), "idempotency_missing");
    let revoked = scene.caller("eve", &["invoice:read"]);
    scene.said(["token", "revoke"], &["--subject", "eve"]);
    let refused = revoked.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    assert_eq!((refused.status, refused.reason()), (401, "token_revoked"));

    let page = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("metrics");
    let samples = metrics::parse(&page);
    let count = |labels: &[&str]| metrics::sum(&samples, "stockade_calls_total", labels);
    let done = ["tool=\"invoice\"", "verb=\"read\"", "outcome=\"done\""];
    assert!((count(&done) - 2.0).abs() < 0.1, "{page}");
    let unknown = ["tool=\"unknown\"", "outcome=\"unknown_or_forbidden\""];
    assert!((count(&unknown) - 3.0).abs() < 0.1, "{page}");
    assert!(
        !page.contains("=\"nothing\""),
        "no label is a caller's word"
    );
    for code in [
        "proof_key",
        "proof_replayed",
        "token_tool",
        "approval_required",
    ] {
        assert!(!scene.records(&["--outcome", code]).is_empty(), "{code}");
    }
    scene.end();
}

#[test]
fn the_kill_switch_holds_at_once_and_over_a_restart() {
    let mut scene = Scene::invoice();
    let alice = scene.caller("alice", &["invoice:read"]);
    let sample = || json!({"id": "INV-0A1B2C3D"});
    assert!(alice.call("invoice", "read", sample()).is_done());
    let switch = |scene: &Scene, stand: &str, tool: &str| {
        let output = scene.agent.command(&["tool", stand, tool]);
        output.expect("it runs")
    };
    assert!(switch(&scene, "off", "invoice").status.success());
    assert_eq!(alice.call("invoice", "read", sample()).reason(), "killed");
    assert!(
        alice.call("invoice-mcp", "read", sample()).is_done(),
        "the others go on\n{}",
        scene.agent.log()
    );
    let typo = switch(&scene, "off", "invoise");
    assert!(!typo.status.success());
    assert!(text(&typo.stderr).contains("hint: `invoice`?"), "{typo:?}");
    scene.agent.kill().expect("it dies");
    scene.agent.launch().expect("it starts again");
    thread::sleep(Duration::from_millis(50));
    let alice = scene.caller("alice", &["invoice:read"]);
    assert_eq!(alice.call("invoice", "read", sample()).reason(), "killed");
    assert!(switch(&scene, "on", "invoice").status.success());
    assert!(alice.call("invoice", "read", sample()).is_done());
    scene.end();
}
