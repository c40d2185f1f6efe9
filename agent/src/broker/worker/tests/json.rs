//! One process, one answer.

use expect_test::{Expect, expect};
use serde_json::json;

use super::{BOUNDS, asked, children, process, said, soon};
use crate::broker::worker::json::ask;

async fn check(script: &str, expected: Expect) {
    let host = children(script);
    let mut process = process(&host).await;
    let arguments = json!({"amount": 12});
    let answer = soon(ask(&mut process, &asked(&arguments), BOUNDS)).await;
    expected.assert_eq(&said(answer));
}

#[tokio::test]
async fn an_answer_or_a_failure_of_the_tool() {
    check(
        "import sys,json; r=json.load(sys.stdin); print(json.dumps({'result': {'saw': r}}))",
        expect![[r#"done [{"text":"{\"saw\":{\"arguments\":{\"amount\":12},\"tool\":\"t\",\"verb\":\"echo\"}}","type":"text"}] {"saw":{"arguments":{"amount":12},"tool":"t","verb":"echo"}}"#]],
    )
    .await;
    check(
        "print('{\"result\": [1, 2]}')",
        expect![[r#"done [{"text":"[1,2]","type":"text"}] null"#]],
    )
    .await;
    check(
        "print('{\"error\": {\"message\": \"no such payee\"}}')",
        expect![[r#"error [{"text":"no such payee","type":"text"}] null"#]],
    )
    .await;
}

#[tokio::test]
async fn anything_else_is_no_answer() {
    for (script, expected) in [
        ("pass", expect!["begun worker_failed (no answer)"]),
        (
            "print('{\"result\": 1}'); raise SystemExit(3)",
            expect!["begun worker_failed (exit status: 3)"],
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            expect!["begun worker_failed (signal: 9 (SIGKILL))"],
        ),
        (
            "print('{\"result\": 1, \"more\": 2}')",
            expect!["begun worker_malformed (a key that is neither `result` nor `error`)"],
        ),
        (
            "print('{\"result\": 1, \"error\": {\"message\": \"x\"}}')",
            expect!["begun worker_malformed (not one of `result` and `error`)"],
        ),
        (
            "print('{\"error\": \"x\"}')",
            expect!["begun worker_malformed (not one of `result` and `error`)"],
        ),
        (
            "print('{\"error\": {\"message\": \"x\", \"code\": 2}}')",
            expect!["begun worker_malformed (`error` is not {\"message\": text})"],
        ),
        ("print('[]')", expect!["begun worker_malformed (no object)"]),
        (
            "print('x' * (300 * 1024))",
            expect!["begun worker_too_large (more than 262144 bytes)"],
        ),
    ] {
        check(script, expected).await;
    }
    // What the strict parser says is its own affair.
    for script in [
        "print('{\"result\": 1}\\n{\"result\": 2}')",
        "print('{\"result\": 1, \"result\": 2}')",
        "print('{\"result\": ' + '[' * 40 + ']' * 40 + '}')",
        "print('not json')",
        "import sys; sys.stdout.buffer.write(b'{\"result\": \"\\xff\"}')",
    ] {
        let host = children(script);
        let mut process = process(&host).await;
        let arguments = json!({});
        let answer = soon(ask(&mut process, &asked(&arguments), BOUNDS)).await;
        assert!(
            said(answer).starts_with("begun worker_malformed"),
            "{script}"
        );
    }
}

#[tokio::test]
async fn a_large_request_and_a_large_answer_cross_each_other() {
    let script = "import sys
sys.stdout.write('{\"result\": \"' + 'a' * 200000); sys.stdout.flush()
n = len(sys.stdin.read())
print('\"}')";
    let host = children(script);
    let mut process = process(&host).await;
    let arguments = json!({"text": "b".repeat(200_000)});
    let answer = soon(ask(&mut process, &asked(&arguments), BOUNDS)).await;
    assert!(said(answer).starts_with("done"));
}

#[tokio::test]
async fn one_that_does_not_read_may_answer() {
    let host = children("print('{\"result\": {}}')");
    let mut process = process(&host).await;
    let arguments = json!({"text": "b".repeat(200_000)});
    let answer = soon(ask(&mut process, &asked(&arguments), BOUNDS)).await;
    assert!(said(answer).starts_with("done"));
}

#[tokio::test]
async fn errors_are_read_without_end_so_that_no_worker_waits() {
    let script =
        "import sys; sys.stderr.write('\\x1b[2J' + 'e' * 1000000); print('{\"result\": {}}')";
    let host = children(script);
    let mut process = process(&host).await;
    let arguments = json!({});
    let answer = soon(ask(&mut process, &asked(&arguments), BOUNDS)).await;
    assert!(said(answer).starts_with("done"));
}
