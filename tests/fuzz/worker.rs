//! What an MCP worker writes: every byte of it is foreign.

use agent::broker::{FrameLimits, worker::heard};
use serde_json::json;

use crate::mutator::fuzz;

const TEXT: &[u8] = br#"{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"a","annotations":{"priority":1}},{"type":"image","data":"aQ==","mimeType":"image/png"},{"type":"resource","resource":{"uri":"a:b","text":"c"}},{"type":"resource_link","uri":"a:b","name":"n","size":4}],"structuredContent":{"a":[1.5,null]},"isError":false,"_meta":{"x":1}}}"#;
const MODERN: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[],"structuredContent":{"ok":true}}}"#;
const TOLD: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":2}}"#;
const ASKS: &[u8] = br#"{"jsonrpc":"2.0","id":"x","method":"ping"}"#;
const ERROR: &[u8] = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;

#[test]
fn the_corpus_is_good() {
    for (line, is_result) in [
        (TEXT, true),
        (MODERN, true),
        (TOLD, false),
        (ASKS, false),
        (ERROR, false),
    ] {
        let kept = heard(line, FrameLimits::default()).expect("a message");
        assert_eq!(kept.is_some(), is_result);
    }
}

#[test]
fn a_line_of_any_bytes_is_kept_in_known_members_or_refused() {
    fuzz("worker", &[TEXT, MODERN, TOLD, ASKS, ERROR], |bytes| {
        let Ok(Some(kept)) = heard(bytes, FrameLimits::default()) else {
            return;
        };
        let known = ["content", "isError", "structuredContent"];
        let members = kept.as_object().expect("an object");
        assert!(members.keys().all(|key| known.contains(&key.as_str())));
        let again = json!({ "jsonrpc": "2.0", "id": 1, "result": kept }).to_string();
        let again = heard(again.as_bytes(), FrameLimits::default());
        assert_eq!(again, Ok(Some(kept)), "what is kept is kept alike");
    });
}
