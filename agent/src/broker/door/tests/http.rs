//! HTTP: what is taken, and with which status the rest is refused.

use std::io::Write as _;

use serde_json::json;

use super::{BYTES_IN, Door, code, nobody, parts, quick, reason, rest};
use crate::broker::door::Settings;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[test]
fn methods_paths_and_kinds() {
    let door = Door::open();
    let ask = |head: &str| {
        parts(
            &door.all(format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()),
        )
    };
    for method in ["GET", "DELETE", "PUT"] {
        let (status, head, _) = ask(&format!("{method} /mcp HTTP/1.1"));
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: post"), "{head}");
    }
    for path in [
        "/",
        "/mcp/",
        "/mcp/..",
        "/mcp/a/b",
        "/mcp/Invoice",
        "/v1",
        "//mcp",
    ] {
        assert_eq!(ask(&format!("POST {path} HTTP/1.1")).0, 404, "{path}");
    }
    assert_eq!(ask("POST /mcp HTTP/1.1").0, 415, "no content type");
    assert_eq!(ask("GET /v1/openapi.json HTTP/1.1").0, 200);
    assert_eq!(ask("no http at all").0, 400);
}

#[test]
fn a_request_with_an_origin_is_a_browsers() {
    let door = Door::open();
    let (status, _, _) = door.post("/mcp", "Origin: http://localhost\r\n", PING);
    assert_eq!(status, 403);
    assert_eq!(door.post("/mcp", "", PING).0, 200, "without it");
}

#[test]
fn a_body_has_a_bound_however_it_comes() {
    let door = Door::open();
    let ping = format!("{PING}{}", " ".repeat(BYTES_IN - PING.len()));
    assert_eq!(door.post("/mcp", "", &ping).0, 200, "at the bound");
    let (status, _, answer) = door.post("/mcp", "", &format!("{ping} "));
    assert_eq!((status, reason(&answer)), (413, "frame_too_large"));
    let mut chunked = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..BYTES_IN / 1_024 + 2 {
        chunked.extend(b"400\r\n");
        chunked.extend([b' '; 1_024]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(parts(&door.all(&chunked)).0, 413);
}

#[test]
fn head_and_body_must_come_in_time() {
    let mut settings = Settings::new(nobody());
    settings.times = quick();
    let door = Door::with(settings);
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    // It ends: that is what is asked.
    door.all(head.as_bytes());
    let (status, _, answer) =
        parts(&door.all(format!("{head}Content-Length: 40\r\n\r\n{{").as_bytes()));
    assert_eq!((status, reason(&answer)), (408, "frame_too_slow"));
}

#[test]
fn two_requests_that_disagree_on_their_length_are_not_taken() {
    let door = Door::open();
    for headers in [
        "Content-Length: 40\r\nContent-Length: 41\r\n",
        "Content-Length: 40\r\nTransfer-Encoding: chunked, identity\r\n",
    ] {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n{PING}"
        );
        assert_eq!(parts(&door.all(request.as_bytes())).0, 400, "{headers}");
    }
}

#[test]
fn notifications_are_taken_without_a_word() {
    let door = Door::open();
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let (status, _, answer) = door.post("/mcp", "", body);
    assert_eq!((status, answer), (202, serde_json::Value::Null));
}

#[test]
fn the_handshake_offers_what_is_spoken() {
    let door = Door::open();
    for (asked, offered) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let body = json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": { "protocolVersion": asked, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } },
        });
        let (status, head, answer) = door.post("/mcp/invoice", "", &body.to_string());
        assert_eq!(status, 200);
        let version = answer.pointer("/result/protocolVersion");
        assert_eq!(version, Some(&json!(offered)), "{answer}");
        assert!(!head.contains("mcp-session-id"), "{head}");
    }
}

#[test]
fn the_newer_revision_must_say_the_same_in_head_and_body() {
    let door = Door::open();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let discover = json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": { "_meta": meta } });
    let head = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: server/discover\r\n";
    let (status, _, answer) = door.post("/mcp", head, &discover.to_string());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer.pointer("/result/resultType"),
        Some(&json!("complete"))
    );
    for head in [
        "",
        "MCP-Protocol-Version: 2026-07-28\r\n",
        "MCP-Protocol-Version: 2025-11-25\r\nMcp-Method: server/discover\r\n",
        "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n",
    ] {
        let (status, _, answer) = door.post("/mcp", head, &discover.to_string());
        assert_eq!((status, code(&answer)), (400, -32_020), "{head}");
    }
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "a.b", "arguments": {}, "_meta": meta },
    });
    let head = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n";
    for (name, expected) in [("a.c", true), ("=?base64?YS5i?=", false), ("a.b", false)] {
        let head = format!("{head}Mcp-Name: {name}\r\n");
        let (_, _, answer) = door.post("/mcp", &head, &call.to_string());
        assert_eq!(code(&answer) == -32_020, expected, "{name}: {answer}");
    }
}

#[test]
fn versions_that_are_not_spoken_are_refused_with_those_that_are() {
    let door = Door::open();
    let (status, _, answer) = door.post("/mcp", "MCP-Protocol-Version: 1999-01-01\r\n", PING);
    assert_eq!((status, code(&answer)), (400, -32_022));
    assert_eq!(
        answer.pointer("/error/data/supported/0"),
        Some(&json!("2026-07-28"))
    );
    // The newer revision without what it must have is no older one.
    let (status, _, answer) = door.post("/mcp", "MCP-Protocol-Version: 2026-07-28\r\n", PING);
    assert_eq!((status, code(&answer)), (400, -32_602));
}

#[test]
fn what_is_shown_twice_is_not_shown() {
    let door = Door::open();
    let call = r#"{"tool":"invoice","verb":"read"}"#;
    for headers in [
        "DPoP: a\r\nDPoP: b\r\n",
        "Authorization: DPoP a\r\nAuthorization: DPoP b\r\n",
        "Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
    ] {
        let (status, _, answer) = door.post("/v1/calls", headers, call);
        let why = answer.get("reason");
        assert_eq!(
            (status, why),
            (400, Some(&json!("request_malformed"))),
            "{headers}"
        );
    }
    let listed = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/list",
        "params": { "_meta": { "stockade/authorization": "DPoP a" } },
    });
    let (status, _, _) = door.post("/mcp", "", &listed.to_string());
    assert_eq!(status, 400, "credentials in the body of HTTP");
    let (status, head, _) = door.post("/v1/calls", "Authorization: Bearer a\r\n", call);
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: dpop algs="), "{head}");
}

#[test]
fn the_plain_face_takes_one_shape() {
    let door = Door::open();
    for body in [
        "{}",
        "[]",
        r#"{"tool":"a","verb":"b","x":1}"#,
        r#"{"tool":"a","verb":"b","arguments":[]}"#,
        r#"{"tool":"a","verb":7}"#,
        r#"{"tool":"a","tool":"b","verb":"c"}"#,
    ] {
        let (status, head, answer) = door.post("/v1/calls", "", body);
        assert_eq!(status, 400, "{body}");
        assert!(head.contains("application/problem+json"), "{head}");
        assert!(answer.get("reason").is_some(), "{answer}");
    }
    let key = "Idempotency-Key: a\r\n";
    let other = r#"{"tool":"a","verb":"b","idempotencyKey":"b"}"#;
    assert_eq!(
        door.post("/v1/calls", key, other).0,
        400,
        "header against body"
    );
}

#[test]
fn one_connection_serves_many_requests() {
    let door = Door::open();
    let mut stream = door.connect();
    let request = |last: bool| {
        let close = if last { "Connection: close\r\n" } else { "" };
        format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{close}Content-Length: {}\r\n\r\n{PING}",
            PING.len()
        )
    };
    let three = [request(false), request(false), request(true)].concat();
    stream.write_all(three.as_bytes()).expect("somebody reads");
    let told = rest(&mut stream);
    assert_eq!(told.matches("HTTP/1.1 200").count(), 3, "{told}");
}
