//! A warm worker whose next call is another runtime's.

use std::time::Duration;

use serde_json::json;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::{Client, asked, mcp, said, soon};

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// A worker that has answered once in a runtime that nobody runs any more.
fn answered(runtime: &Runtime) -> Client {
    runtime.block_on(async {
        let client = mcp::open(&mcp::server("")).await;
        let mut client = client.unwrap_or_else(|failure| panic!("{}", failure.refused.detail));
        let first = said(soon(client.call(&asked(&json!({"a": 1})))).await);
        assert!(first.starts_with("done"), "{first}");
        client
    })
}

#[test]
fn it_answers_to_whom_it_has_come() {
    let (one, other) = (runtime(), runtime());
    let mut client = answered(&one);
    let again = other.block_on(async {
        client.come_here().expect("it comes");
        said(soon(client.call(&asked(&json!({"a": 2})))).await)
    });
    assert!(again.starts_with("done") && again.contains(" 2"), "{again}");
    let back = one.block_on(async {
        client.come_here().expect("it comes back");
        said(soon(client.call(&asked(&json!({"a": 3})))).await)
    });
    assert!(back.starts_with("done") && back.contains(" 3"), "{back}");
}

#[test]
fn otherwise_its_answer_waits_for_the_runtime_that_watches_it() {
    let (one, other) = (runtime(), runtime());
    let mut client = answered(&one);
    other.block_on(async {
        let arguments = json!({"a": 2});
        let told = timeout(Duration::from_millis(300), client.call(&asked(&arguments))).await;
        assert!(told.is_err(), "nobody runs the other one");
    });
}
