//! A message of the broker's socket: whoever is in its group sends what they like.

use agent::{
    broker::{
        FrameLimits,
        door::rpc::{self, Message},
    },
    json,
};

use crate::mutator::fuzz;

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"invoice.read","arguments":{"id":1.5,"text":"a\u00e9"},"_meta":{"stockade/authorization":"DPoP token","stockade/dpop":"proof","progressToken":"p"}}}"#;
const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"cursor":"aQ"}}"#;
const TOLD: &[u8] =
    br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

#[test]
fn the_corpus_is_good() {
    for good in [CALL, LIST, TOLD, ANSWER] {
        let value = rpc::parse(good, FrameLimits::default()).expect("strict JSON");
        rpc::read(value).expect("a message");
    }
}

#[test]
fn a_message_of_any_bytes_is_taken_whole_or_refused() {
    fuzz("frame", &[CALL, LIST, TOLD, ANSWER], |bytes| {
        let Ok(mut value) = rpc::parse(bytes, FrameLimits::default()) else {
            return;
        };
        let again = rpc::parse(&json::canonical(&value), FrameLimits::default());
        assert_eq!(again.as_ref(), Ok(&value), "what was read reads alike");
        drop(rpc::take_credentials(&mut value));
        let meta = value.pointer("/params/_meta");
        for key in ["stockade/authorization", "stockade/dpop"] {
            let left = meta.and_then(|meta| meta.get(key));
            assert!(left.is_none(), "{key} is left");
        }
        if let Ok(Message::Request { id, method, params }) = rpc::read(value) {
            let again = serde_json::json!({
                "jsonrpc": "2.0", "id": id, "method": method, "params": params,
            });
            assert!(rpc::read(again).is_ok(), "a request is one again");
        }
    });
}
