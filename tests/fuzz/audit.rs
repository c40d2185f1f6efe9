//! The journal: what was written, damaged in any way, is never called whole, and is asked all the same.

use std::{fs, path::Path};

use agent::audit::{
    Against, CallOutcome, CallRecord, Caller, Filter, Intent, Journal, KeyRotated, Refusal,
    TokenChange, query, verify,
};

use crate::mutator::fuzz;

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 7,
};

fn call(verb: &str) -> CallRecord {
    CallRecord {
        door: "http",
        caller: CALLER,
        tool: "invoice".to_owned(),
        verb: verb.to_owned(),
        principal: None,
        token: None,
        purpose: Some("month end".to_owned()),
        session_hash: None,
        prompt_hash: None,
        policy: None,
        arguments: Some("00ff".to_owned()),
        idempotency: None,
    }
}

/// Number of the last record of the good journal.
const LAST: u64 = 6;

/// A journal with a record of most kinds.
fn write(path: &Path) {
    let (journal, _) = Journal::open(path).expect("a journal");
    let command = ["/bin/true".to_owned()];
    let intent = Intent {
        tool: "invoice",
        policy: "00ff",
        command: &command,
        caller: CALLER,
    };
    let receipt = journal.intent(&intent).expect("recorded");
    assert_eq!(receipt.sequence(), 2);
    let rotated = KeyRotated {
        caller: CALLER,
        key: "k2",
        forced: true,
    };
    let changed = journal.token(TokenChange::Rotated(&rotated));
    changed.expect("recorded");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let receipt = journal.call(&call("read"), false).await.expect("recorded");
        let outcome = CallOutcome {
            code: "done",
            session: Some(2),
            seconds: 0.5,
            result: None,
            bytes: 12,
            replayed: false,
        };
        let called = journal.called(receipt, &outcome, false).await;
        called.expect("recorded");
        let refusal = Refusal {
            code: "rate_limited",
            detail: "10/min per user",
        };
        let refused = journal.refused(&call("create"), refusal).await;
        refused.expect("recorded");
    });
}

#[test]
fn no_journal_but_the_written_one_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    write(&path);
    let good = fs::read(&path).expect("a file");
    verify(&path, &Against::default()).expect("whole");
    let judge = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        if let Ok(whole) = verify(&path, &Against::default()) {
            // Behind what was signed may stand what a power cut left of one more write, several lines of
            // it as well: it is counted and not believed.
            let behind = bytes.strip_prefix(good.as_slice());
            let behind = behind.expect("another journal is called whole");
            assert_eq!(
                whole.unfinished_bytes,
                behind.len() as u64,
                "not all is told"
            );
            assert_eq!((whole.last, whole.signed), (LAST, LAST), "it is believed");
        }
        let asked = query(&path, &Filter::default(), |_| Ok(()));
        asked.expect("readable").expect("taken");
    };
    judge(&[&good, b"0\"}\n{\"sequence\":1}\n{".as_slice()].concat());
    fuzz("journal", &[&good], judge);
}
