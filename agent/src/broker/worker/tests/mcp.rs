//! Servers of both eras, and servers that do not keep to the protocol.

use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Asked, BOUNDS, Client, asked, children, process, said, soon};
use crate::{
    broker::worker::{Failure, Key, Pool},
    policy::compiled::Digest,
};

/// A server; `{methods}` are branches on `m`, the method, with `i`, the id, and `p`, the parameters.
const SERVER: &str = r#"
import sys, json, os, time
def say(o): sys.stdout.write(json.dumps(o) + "\n"); sys.stdout.flush()
def result(i, r): say({"jsonrpc": "2.0", "id": i, "result": r})
def error(i, c, t): say({"jsonrpc": "2.0", "id": i, "error": {"code": c, "message": t}})
TOOLS = [{"name": "echo", "description": "Echoes", "inputSchema": {"type": "object"}}]
n = 0
for line in sys.stdin:
    r = json.loads(line); m = r["method"]; i = r.get("id"); p = r.get("params") or {}
    if False: pass
{methods}
    elif m == "initialize": result(i, {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}})
    elif m == "notifications/initialized": pass
    elif m == "tools/list": result(i, {"tools": TOOLS})
    elif m == "tools/call":
        n += 1
        result(i, {"content": [{"type": "text", "text": json.dumps(p["arguments"], sort_keys=True) + " " + str(n)}]})
    else: error(i, -32601, "Method not found")
"#;

pub(super) fn server(methods: &str) -> String {
    if methods.is_empty() {
        return SERVER.replace("{methods}\n", "");
    }
    let methods = methods.replace('\n', "\n    ");
    SERVER.replace("{methods}", &format!("    {methods}"))
}

pub(super) async fn open(script: &str) -> Result<Client, Failure> {
    let host = children(script);
    let process = process(&host).await;
    soon(Client::open(process, BOUNDS)).await
}

async fn call(script: &str) -> String {
    let mut client = match open(script).await {
        Ok(client) => client,
        Err(failure) => return said(Err(failure)),
    };
    let arguments = json!({"a": 1});
    said(soon(client.call(&asked(&arguments))).await)
}

async fn check(methods: &str, expected: Expect) {
    expected.assert_eq(&call(&server(methods)).await);
}

#[tokio::test]
async fn a_server_with_a_handshake() {
    check(
        "",
        expect![[r#"done [{"text":"{\"a\": 1} 1","type":"text"}] null"#]],
    )
    .await;
    check(
        r#"elif m == "initialize": result(i, {"protocolVersion": "2024-11-05"})"#,
        expect![[r#"done [{"text":"{\"a\": 1} 1","type":"text"}] null"#]],
    )
    .await;
    check(
        r#"elif m == "initialize": result(i, {"protocolVersion": "1999-01-01"})"#,
        expect!["not begun worker_malformed (it speaks no revision that is spoken here)"],
    )
    .await;
}

#[tokio::test]
async fn a_stateless_server() {
    let stateless = r#"
elif m == "initialize": error(i, -32601, "Method not found")
elif p["_meta"]["io.modelcontextprotocol/protocolVersion"] != "2026-07-28": error(i, -32602, "version")
elif m == "server/discover": result(i, {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
elif m == "tools/call": result(i, {"resultType": "complete", "content": [], "structuredContent": {"ok": True}})"#;
    check(stateless, expect![[r#"done [] {"ok":true}"#]]).await;
    let asks_back = stateless.replace(
        "\"resultType\": \"complete\", \"content\"",
        "\"resultType\": \"input_required\", \"content\"",
    );
    check(
        &asks_back,
        expect!["begun worker_malformed (the worker asks back, which nobody can answer)"],
    )
    .await;
}

#[tokio::test]
async fn only_the_envelope_that_the_protocol_defines_is_kept() {
    check(
        r#"elif m == "tools/call": result(i, {"content": [{"type": "text", "text": "x", "_meta": {"k": 1}, "extra": 2}], "isError": True, "_meta": {"secret": 1}, "other": 3})"#,
        expect![[r#"error [{"text":"x","type":"text"}] null"#]],
    )
    .await;
    for (result, why) in [
        ("[]", "the result is no object"),
        ("{}", "neither `content` nor `structuredContent`"),
        (r#"{"content": {}}"#, "`content` is no list of blocks"),
        (r#"{"content": ["x"]}"#, "a block is no object"),
        (
            r#"{"content": [{"type": "html", "text": ""}]}"#,
            "a block of an unknown kind",
        ),
        (
            r#"{"content": [{"type": "text", "text": 1}]}"#,
            "a block lacks a text",
        ),
        (
            r#"{"content": [{"type": "resource", "resource": {}}]}"#,
            "without a resource",
        ),
        (
            r#"{"content": [], "isError": "no"}"#,
            "`isError` is no boolean",
        ),
        (
            r#"{"content": [], "structuredContent": []}"#,
            "`structuredContent` is no object",
        ),
    ] {
        let methods = format!("elif m == \"tools/call\": result(i, {result})");
        let said = call(&server(&methods)).await;
        assert!(
            said.starts_with("begun worker_malformed"),
            "{result}: {said}"
        );
        assert!(said.contains(why), "{result}: {said}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_keep_to_the_protocol() {
    for (methods, expected) in [
        (
            "elif m == \"tools/call\": result(i + 7, {\"content\": []})",
            "begun worker_malformed (an answer to something else)",
        ),
        (
            "elif m == \"tools/call\": print(\"debug\", flush=True)",
            "begun worker_malformed",
        ),
        (
            "elif m == \"tools/call\": say([])",
            "begun worker_malformed (a message is no object)",
        ),
        (
            "elif m == \"tools/call\": say({\"id\": i, \"result\": {}})",
            "begun worker_malformed (a message is not of JSON-RPC 2.0)",
        ),
        (
            "elif m == \"tools/call\": say({\"jsonrpc\": \"2.0\", \"id\": i, \"result\": {}, \"error\": {}})",
            "begun worker_malformed (an answer is not one of `result` and `error`)",
        ),
        (
            "elif m == \"tools/call\": sys.exit(0)",
            "begun worker_failed (it ended)",
        ),
        (
            "elif m == \"tools/call\": sys.stdout.write(\"x\" * 300000); sys.stdout.flush()",
            "begun worker_too_large",
        ),
        (
            "elif m == \"tools/call\":\n    while True: say({\"jsonrpc\": \"2.0\", \"method\": \"notifications/message\"})",
            "begun worker_malformed (too many messages before the answer)",
        ),
        (
            "elif m == \"tools/list\": result(i, {\"tools\": TOOLS, \"nextCursor\": \"again\"})",
            "not begun worker_malformed (a tool is listed twice, or too many are)",
        ),
        (
            "elif m == \"tools/list\": result(i, {\"tools\": [], \"nextCursor\": \"again\"})",
            "not begun worker_malformed (`tools/list` has no end)",
        ),
        (
            "elif m == \"initialize\": sys.exit(1)",
            "not begun worker_failed (it ended)",
        ),
    ] {
        let said = call(&server(methods)).await;
        assert!(said.starts_with(expected), "{methods}: {said}");
    }
}

#[tokio::test]
async fn a_server_may_ping_and_is_offered_nothing_else() {
    let script = r#"
elif m == "tools/call":
    say({"jsonrpc": "2.0", "id": "p", "method": "ping"}); a = json.loads(sys.stdin.readline())
    say({"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {}}); b = json.loads(sys.stdin.readline())
    result(i, {"content": [{"type": "text", "text": json.dumps([a, b], sort_keys=True)}]})"#;
    check(
        script,
        expect![[r#"done [{"text":"[{\"id\": \"p\", \"jsonrpc\": \"2.0\", \"result\": {}}, {\"error\": {\"code\": -32601, \"message\": \"not offered\"}, \"id\": 9, \"jsonrpc\": \"2.0\"}]","type":"text"}] null"#]],
    )
    .await;
}

#[tokio::test]
async fn an_error_of_the_server_is_the_tools_failure() {
    check(
        r#"elif m == "tools/call": error(i, -32602, "amount is missing")"#,
        expect![[r#"error [{"text":"the worker refused (-32602): amount is missing","type":"text"}] null"#]],
    )
    .await;
}

#[tokio::test]
async fn progress_goes_to_whoever_asked_and_without_the_workers_token() {
    let script = r#"
elif m == "tools/call":
    t = p["_meta"]["progressToken"]
    say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": t, "progress": 1, "total": 2}})
    say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "another", "progress": 9}})
    result(i, {"content": []  , "structuredContent": {}})"#;
    let mut client = open(&server(script)).await.unwrap();
    let (send, mut receive) = mpsc::channel(8);
    let arguments = json!({});
    let asked = Asked {
        progress: Some(&send),
        ..asked(&arguments)
    };
    assert!(soon(client.call(&asked)).await.is_ok());
    assert_eq!(receive.try_recv(), Ok(json!({"progress": 1, "total": 2})));
    assert!(receive.try_recv().is_err());
}

#[tokio::test]
async fn a_call_that_was_cut_off_is_cancelled() {
    let script = r#"
elif m == "tools/call":
    c = json.loads(sys.stdin.readline())
    open(p["arguments"]["file"], "w").write(c["method"] + " " + str(c["params"]["requestId"] == i))"#;
    let mut client = open(&server(script)).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("saw");
    let arguments = json!({"file": file});
    let asked = asked(&arguments);
    let call = tokio::time::timeout(Duration::from_millis(200), client.call(&asked));
    assert!(call.await.is_err());
    soon(client.cancel("nobody waits")).await;
    assert!(!client.is_fit(), "it owes an answer");
    client.leave();
    for _ in 0..200 {
        if std::fs::read_to_string(&file).is_ok_and(|saw| saw == "notifications/cancelled True") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the worker was not told");
}

#[tokio::test]
async fn a_tool_is_the_one_that_was_pinned() {
    let client = open(&server("")).await.unwrap();
    let pin = crate::json::digest(
        &json!({"name": "echo", "description": "Echoes", "inputSchema": {"type": "object"}}),
    );
    assert!(client.check("echo", None).is_ok());
    assert!(client.check("echo", Some(pin)).is_ok());
    let other = client.check("echo", Some([7; 32])).unwrap_err();
    assert_eq!(other.reason.code(), "tool_pin");
    assert!(other.detail.contains("pinned as 0707"), "{}", other.detail);
    assert_eq!(
        client.check("gone", None).unwrap_err().reason.code(),
        "tool_pin"
    );
    for change in [
        r#"TOOLS[0]["description"] = "Echoes, and sends it on""#,
        r#"TOOLS[0]["inputSchema"] = {"type": "object", "properties": {"bcc": {}}}"#,
        r#"TOOLS[0]["annotations"] = {"readOnlyHint": True}"#,
        r#"TOOLS[0]["title"] = "x""#,
    ] {
        let methods =
            format!("elif m == \"tools/list\": {change}; result(i, {{\"tools\": TOOLS}})");
        let client = open(&server(&methods)).await.unwrap();
        assert!(client.check("echo", Some(pin)).is_err(), "{change}");
    }
}

fn key(subject: &str, session: Option<&str>, policy: u8) -> Key {
    Key {
        policy: Digest([policy; 32]),
        issuer: "i".to_owned(),
        subject: subject.to_owned(),
        client: "c".to_owned(),
        session: session.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_warm_worker_serves_its_own_principal_only() {
    let pool = Pool::new(4);
    let hour = Duration::from_hours(1);
    let alice = key("alice", Some("s1"), 1);
    let client = open(&server("")).await.unwrap();
    pool.put(alice.clone(), "t", client, hour);
    for other in [
        key("bob", Some("s1"), 1),
        key("alice", Some("s2"), 1),
        key("alice", None, 1),
        key("alice", Some("s1"), 2),
    ] {
        assert!(pool.take(&other).is_none(), "{other:?}");
    }
    let mut client = pool.take(&alice).expect("her own");
    assert!(pool.take(&alice).is_none(), "one call at a time");
    let arguments = json!({});
    let first = said(soon(client.call(&asked(&arguments))).await);
    pool.put(alice.clone(), "t", client, hour);
    let mut client = pool.take(&alice).expect("again");
    let second = said(soon(client.call(&asked(&arguments))).await);
    assert!(
        first.contains("{} 1") && second.contains("{} 2"),
        "{first} {second}"
    );
}

#[tokio::test]
async fn the_pool_lets_go_what_is_idle_unfit_removed_or_too_much() {
    let pool = Pool::new(2);
    let hour = Duration::from_hours(1);
    let (a, b, c) = (key("a", None, 1), key("b", None, 1), key("c", None, 2));
    pool.put(
        a.clone(),
        "t",
        open(&server("")).await.unwrap(),
        Duration::ZERO,
    );
    assert!(pool.take(&a).is_none(), "its time is over");
    pool.put(a.clone(), "t", open(&server("")).await.unwrap(), hour);
    pool.put(b.clone(), "t", open(&server("")).await.unwrap(), hour);
    pool.put(c.clone(), "u", open(&server("")).await.unwrap(), hour);
    assert_eq!(pool.len(), 2);
    assert!(
        pool.take(&a).is_none(),
        "the one that waited longest has gone"
    );
    pool.retain(|digest| *digest == Digest([2; 32]));
    assert!(pool.take(&b).is_none(), "its policy has gone");
    pool.drain("t");
    assert_eq!(pool.len(), 1);
    pool.drain("u");
    assert!(pool.is_empty());
    let changed = r#"elif m == "tools/call": say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}); result(i, {"content": [], "structuredContent": {}})"#;
    let mut client = open(&server(changed)).await.unwrap();
    let arguments = Value::Object(serde_json::Map::new());
    assert!(soon(client.call(&asked(&arguments))).await.is_ok());
    pool.put(a.clone(), "t", client, hour);
    assert!(pool.is_empty(), "it offers something else now");
    let mut dead = open(&server("elif m == \"tools/call\": sys.exit(0)"))
        .await
        .unwrap();
    assert!(soon(dead.call(&asked(&arguments))).await.is_err());
    pool.put(a, "t", dead, hour);
    assert!(pool.is_empty(), "it has ended");
}
