//! Newline-delimited JSON-RPC.

use std::{
    io::Write as _,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{BYTES_IN, Door, code, nobody, quick, read_line, reason, rest};
use crate::broker::door::Settings;

#[test]
fn each_line_has_its_answer_and_blank_lines_have_none() {
    let door = Door::open();
    let mut stream = door.connect();
    let two = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n\r\n\
               {\"jsonrpc\":\"2.0\",\"id\":\"b\",\"method\":\"ping\"}\r\n";
    stream.write_all(two.as_bytes()).expect("somebody reads");
    let mut ids = [read_line(&mut stream), read_line(&mut stream)].map(|answer| {
        assert_eq!(answer.get("result"), Some(&json!({})));
        answer.get("id").cloned().unwrap_or_default()
    });
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, [json!("b"), json!(1)]);
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let door = Door::open();
    let mut stream = door.connect();
    for byte in b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n" {
        stream.write_all(&[*byte]).expect("somebody reads");
    }
    assert_eq!(read_line(&mut stream).get("result"), Some(&json!({})));
}

#[test]
fn what_is_no_message_is_refused_by_what_is_wrong() {
    let door = Door::open();
    for (line, expected, why) in [
        ("{", -32_700, "json_malformed"),
        ("{\"a\":1,\"a\":2}", -32_700, "json_duplicate_key"),
        ("{\"a\":1e999}", -32_700, "json_number"),
        ("{\"a\":\"\u{0}\"}", -32_700, "json_malformed"),
        (
            "{\"id\":1,\"method\":\"ping\"}",
            -32_602,
            "request_malformed",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
            -32_602,
            "request_malformed",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}",
            -32_602,
            "request_malformed",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"x\":1}",
            -32_602,
            "request_malformed",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}",
            -32_602,
            "request_malformed",
        ),
    ] {
        let answer = door.line(line);
        assert_eq!((code(&answer), reason(&answer)), (expected, why), "{line}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(80), "]".repeat(80));
    assert_eq!(reason(&door.line(&deep)), "json_too_deep");
}

#[test]
fn a_line_that_is_too_long_ends_the_connection() {
    let door = Door::open();
    let long = format!("{{{}", " ".repeat(BYTES_IN * 2));
    let told = door.all(long.as_bytes());
    assert!(told.contains("frame_too_large"), "{told}");
}

#[test]
fn a_line_at_the_bound_is_taken() {
    let door = Door::open();
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    let padded = format!("{ping}{}", " ".repeat(BYTES_IN - ping.len()));
    assert_eq!(door.line(&padded).get("result"), Some(&json!({})));
    let answer = door.all(format!("{padded} \n").as_bytes());
    assert!(answer.contains("frame_too_large"), "{answer}");
}

#[test]
fn a_line_that_drips_is_cut_off() {
    let mut settings = Settings::new(nobody());
    settings.times = quick();
    let door = Door::with(settings);
    let mut stream = door.connect();
    let begun = Instant::now();
    stream.write_all(b"{").expect("somebody reads");
    while begun.elapsed() < Duration::from_secs(5) {
        // Each byte comes in time; the message as a whole does not.
        if stream.write_all(b" ").is_err() {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(rest(&mut stream).contains("frame_too_slow"));
}

#[test]
fn who_says_nothing_is_cut_off_and_who_has_said_something_too() {
    let mut settings = Settings::new(nobody());
    settings.times = quick();
    let door = Door::with(settings);
    assert_eq!(door.all(b""), "", "no first byte");
    let told = door.all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn a_caller_that_reads_nothing_is_cut_off() {
    let mut settings = Settings::new(nobody());
    settings.times = quick();
    let door = Door::with(settings);
    let mut stream = door.connect();
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server/discover\"}\n";
    let begun = Instant::now();
    while stream.write_all(ping.as_bytes()).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(15), "still taken");
    }
}

#[test]
fn a_call_without_anything_to_show_is_refused_and_nothing_of_it_comes_back() {
    let door = Door::open();
    let call = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "invoice.read", "arguments": { "id": "secret-value" } },
    });
    let answer = door.line(&call.to_string());
    assert_eq!(answer.get("id"), Some(&json!(7)));
    assert!(code(&answer) > 1_000, "{answer}");
    assert!(!answer.to_string().contains("secret-value"), "{answer}");
}

#[test]
fn an_unknown_method_and_a_foreign_param_are_refused() {
    let door = Door::open();
    let unknown = door.line("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/list\"}");
    assert_eq!(code(&unknown), -32_601);
    for params in [
        json!({ "name": "a.b", "arguments": [] }),
        json!({ "name": 7 }),
        json!({ "name": "a.b", "task": {} }),
        json!({ "name": "a.b", "_meta": { "stockade/other": "x" } }),
        json!({ "name": "a.b", "_meta": { "stockade/idempotencyKey": 7 } }),
        json!({ "name": "a.b", "_meta": { "stockade/dpop": 7 } }),
        json!({ "name": "a.b", "_meta": { "progressToken": {} } }),
        json!({ "name": "a.b", "_meta": [] }),
        json!({ "name": "x".repeat(300) }),
    ] {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let answer = door.line(&call.to_string());
        assert_eq!(code(&answer), -32_602, "{call}");
    }
}
