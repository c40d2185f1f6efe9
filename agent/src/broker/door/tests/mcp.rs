//! What is asked and what is told, without a socket.

use serde_json::{Map, Value, json};

use crate::broker::{
    call::{Done, Listed, Reply},
    door::{
        answer::{self, Refusal},
        mcp::{Asked, Era, listed, read},
        rpc::{self, Id},
    },
    reason::{Reason, Refused},
};

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else {
        panic!("no object: {value}");
    };
    object
}

fn verbs(count: usize) -> Vec<Listed> {
    (0..count)
        .map(|number| Listed {
            tool: "invoice".to_owned(),
            verb: format!("v{number:04}"),
            description: "d".to_owned(),
            arguments: json!({ "type": "object" }),
            result: Some(json!({ "type": "array" })),
        })
        .collect()
}

#[test]
fn pages_hold_every_tool_once() {
    for bytes_max in [1, 500, 1 << 20] {
        let mut names = Vec::new();
        let mut params = json!({});
        loop {
            let asked = read("tools/list", object(params), Era::Legacy, None);
            let Ok(Asked::List { after }) = asked else {
                panic!("no list: {asked:?}");
            };
            let page = listed(verbs(600), Era::Legacy, None, after.as_deref(), bytes_max);
            let tools = page.get("tools").and_then(Value::as_array).expect("tools");
            names.extend(tools.iter().filter_map(|tool| tool.get("name").cloned()));
            match page.get("nextCursor") {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => break,
            }
        }
        let expected: Vec<Value> = (0..600)
            .map(|n| json!(format!("invoice.v{n:04}")))
            .collect();
        assert_eq!(names, expected, "pages of {bytes_max} bytes");
    }
    for cursor in [json!(7), json!("!"), json!("_w"), json!("x".repeat(1_000))] {
        let asked = read(
            "tools/list",
            object(json!({ "cursor": cursor })),
            Era::Legacy,
            None,
        );
        assert!(asked.is_err(), "{cursor}");
    }
}

#[test]
fn a_scope_names_verbs_by_their_own_names() {
    let page = listed(verbs(1), Era::Modern, Some("invoice"), None, 1 << 20);
    assert_eq!(page.pointer("/tools/0/name"), Some(&json!("v0000")));
    assert!(page.pointer("/tools/0/outputSchema").is_some());
    assert_eq!(page.get("cacheScope"), Some(&json!("private")));
    let page = listed(verbs(1), Era::Legacy, Some("invoice"), None, 1 << 20);
    assert!(
        page.pointer("/tools/0/outputSchema").is_none(),
        "no object in the older ones"
    );
    let call = |name: &str, scope| {
        let params = object(json!({ "name": name }));
        match read("tools/call", params, Era::Legacy, scope) {
            Ok(Asked::Call(call)) => (call.tool, call.verb, call.arguments),
            other => panic!("no call: {other:?}"),
        }
    };
    let named = |tool: &str, verb: &str| (tool.to_owned(), verb.to_owned(), json!({}));
    assert_eq!(call("invoice.read", None), named("invoice", "read"));
    assert_eq!(call("read", Some("invoice")), named("invoice", "read"));
    // A dot does not lead out of the tool that the address names.
    assert_eq!(
        call("web.get", Some("invoice")),
        named("invoice", "web.get")
    );
    assert_eq!(call("read", None), named("", "read"));
}

#[test]
fn credentials_are_taken_out_before_anything_else_sees_them() {
    let mut message = json!({ "params": { "_meta": {
        "stockade/authorization": "dpop  token ", "stockade/dpop": "proof", "progressToken": 1,
    } } });
    let shown = rpc::take_credentials(&mut message).expect("well shaped");
    assert_eq!(shown.token.as_deref(), Some("token"));
    assert_eq!(shown.proof.as_deref(), Some("proof"));
    assert_eq!(
        message,
        json!({ "params": { "_meta": { "progressToken": 1 } } })
    );
    let mut bearer = json!({ "params": { "_meta": { "stockade/authorization": "Bearer x" } } });
    let refused = rpc::take_credentials(&mut bearer).map(|_| ());
    assert_eq!(
        refused.map_err(|refused| refused.reason),
        Err(Reason::TokenMissing)
    );
    assert_eq!(
        bearer,
        json!({ "params": { "_meta": {} } }),
        "taken out even so"
    );
}

fn refused(reason: Reason) -> Refusal {
    let mut refused = Refused::because(reason, "host/secret/detail");
    refused.retry_after = Some(std::time::Duration::from_millis(1_500));
    let reply = Reply::Refused {
        refused,
        places: vec![("/amount".to_owned(), "maximum".to_owned())],
        nonce: Some("n".to_owned()),
        record: Some(9),
    };
    Refusal::of(reply).expect_err("a refusal")
}

#[test]
fn no_detail_reaches_a_caller() {
    for reason in Reason::ALL {
        let refusal = refused(*reason);
        for told in [
            refusal.answer(&Id::Number(1), Era::Modern),
            refusal.error(None),
            Value::Object(refusal.facts()),
        ] {
            assert!(!told.to_string().contains("secret"), "{told}");
            assert!(told.to_string().contains(reason.code()), "{told}");
        }
    }
}

#[test]
fn what_the_model_can_mend_is_a_result_that_says_so() {
    let told = refused(Reason::ArgumentsRefused).answer(&Id::Number(1), Era::Legacy);
    assert_eq!(told.pointer("/result/isError"), Some(&json!(true)));
    let text = told
        .pointer("/result/content/0/text")
        .and_then(Value::as_str);
    assert!(
        text.is_some_and(|text| text.contains("/amount: maximum")),
        "{told}"
    );
    let told = refused(Reason::RateLimited).answer(&Id::Number(1), Era::Legacy);
    let text = told
        .pointer("/result/content/0/text")
        .and_then(Value::as_str);
    assert!(
        text.is_some_and(|text| text.contains("again in 2 s")),
        "{told}"
    );
    let told = refused(Reason::TokenExpired).answer(&Id::Number(1), Era::Legacy);
    assert!(told.get("result").is_none(), "{told}");
}

#[test]
fn a_result_is_whole_in_both_eras() {
    let done = |structured: Value| Done {
        content: Vec::new(),
        structured: Some(structured),
        is_error: false,
        replayed: true,
        record: 4,
        took: std::time::Duration::from_secs(1),
    };
    let told = answer::done(&Id::Number(1), Era::Legacy, done(json!([1])), None);
    assert_eq!(told.pointer("/result/content/0/text"), Some(&json!("[1]")));
    assert!(
        told.pointer("/result/structuredContent").is_none(),
        "{told}"
    );
    let told = answer::done(&Id::Number(1), Era::Modern, done(json!([1])), None);
    assert_eq!(told.pointer("/result/structuredContent"), Some(&json!([1])));
    assert_eq!(told.pointer("/result/resultType"), Some(&json!("complete")));
    assert_eq!(
        told.pointer("/result/_meta/stockade~1replayed"),
        Some(&json!(true))
    );
}

#[test]
fn of_progress_only_numbers_pass() {
    let said = json!({ "progress": 1, "total": 2, "message": "secret", "progressToken": "other" });
    let told = answer::progress(&json!("mine"), &said).expect("progress");
    assert_eq!(
        told.get("params"),
        Some(&json!({ "progressToken": "mine", "progress": 1, "total": 2 }))
    );
    assert_eq!(
        answer::progress(&json!(1), &json!({ "progress": "x" })),
        None
    );
}
