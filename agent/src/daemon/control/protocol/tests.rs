//! Frames in, requests or their refusal out.

use expect_test::{Expect, expect};

use super::Request;
use crate::daemon::control::token::TokenRequest;

fn check(frame: &str, expected: &Expect) {
    let said = match serde_json::from_str::<Request>(frame) {
        Ok(request) => format!("{request:?}"),
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&said);
}

#[test]
fn requests_are_closed() {
    check(r#"{"request":"status"}"#, &expect!["Status"]);
    check(
        r#"{"request":"status","x":1}"#,
        &expect!["error: unknown field `x`, there are no fields"],
    );
    check(
        r#"{"request":"run","tool":"web","arguments":["-v"],"counted":true}"#,
        &expect![[r#"Run { tool: "web", arguments: ["-v"], counted: true }"#]],
    );
    check(
        r#"{"request":"run","tool":"web","arguments":[],"uid":0}"#,
        &expect!["error: unknown field `uid`, expected one of `tool`, `arguments`, `counted`"],
    );
    check(
        r#"{"request":"run","tool":"web","arguments":[]}"#,
        &expect!["error: missing field `counted`"],
    );
    check(
        r#"{"request":"run","tool":"web"}"#,
        &expect!["error: missing field `arguments`"],
    );
    check(
        r#"{"request":"shutdown"}"#,
        &expect![
            "error: unknown variant `shutdown`, expected one of `run`, `status`, `sessions`, `events`, `reload`, `switch`, `grants`, `suggest`, `attachment`, `token`, `policies` at line 1 column 21"
        ],
    );
    check(
        r#"{"request":"events","session":7}"#,
        &expect!["Events { session: Some(7), tool: None }"],
    );
    check(
        "[]",
        &expect!["error: missing field `request` at line 1 column 2"],
    );
}

#[test]
fn requests_survive_their_json_form() {
    let requests = [
        Request::Run {
            tool: "web".to_owned(),
            arguments: vec!["a\nb".to_owned()],
            counted: true,
        },
        Request::Status {},
        Request::Sessions {},
        Request::Events {
            session: None,
            tool: Some("web".to_owned()),
        },
        Request::Reload {},
        Request::Grants {
            tool: "web".to_owned(),
        },
        Request::Suggest {
            tool: "web".to_owned(),
            session: Some(7),
            seconds: None,
        },
        Request::Token {
            ask: TokenRequest::Keys {},
        },
    ];
    for request in requests {
        let frame = serde_json::to_string(&request).expect("json");
        assert!(!frame.contains('\n'), "{frame}");
        let read: Request = serde_json::from_str(&frame).expect("request");
        assert_eq!(read, request);
    }
}
