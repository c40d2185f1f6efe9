//! Calls: recorded before and after, whatever becomes of who makes them; found again.

use std::{path::Path, sync::Arc, time::Duration};

use common::id::SessionId;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use super::{
    super::{
        Against, AttachRefused, CallOutcome, CallRecord, Error, Filter, Holder, Journal,
        KeyRotated, Principal, Refusal, Token, TokenChange, TokenIssued, TokenRef, TokensRevoked,
        Whose, query, verify,
    },
    CALLER, records,
};
use crate::timestamp::Timestamp;

pub(super) fn call(subject: &str, tool: &str) -> CallRecord {
    CallRecord {
        door: "http",
        caller: CALLER,
        tool: tool.to_owned(),
        verb: "create".to_owned(),
        principal: Some(Principal {
            issuer: "local".to_owned(),
            subject: subject.to_owned(),
            client: "desk".to_owned(),
        }),
        token: Some(TokenRef {
            id: format!("token-of-{subject}"),
            key: "k1".to_owned(),
        }),
        purpose: Some("month end".to_owned()),
        session_hash: None,
        prompt_hash: Some("ff".to_owned()),
        policy: None,
        arguments: None,
        idempotency: None,
    }
}

pub(super) fn done() -> CallOutcome {
    CallOutcome {
        code: "done",
        session: Some(3),
        seconds: 0.5,
        result: None,
        bytes: 12,
        replayed: false,
    }
}

fn found(path: &Path, filter: &Filter) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let handed = query(path, filter, |found| {
        let number = found.begun["sequence"].as_u64().expect("a number");
        all.push((number, found.outcome));
        Ok(())
    });
    handed.expect("readable").expect("taken");
    all
}

fn by(ask: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter::default();
    ask(&mut filter);
    filter
}

#[tokio::test]
async fn a_call_is_two_records_and_is_found_by_all_it_is_known_by() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let first = journal.call(&call("ann", "invoice"), true).await;
    let first = first.expect("receipt");
    let refusal = Refusal {
        code: "rate_limited",
        detail: "user",
    };
    let bob = call("bob", "invoice");
    assert_eq!(journal.refused(&bob, refusal).await.expect("record"), 3);
    let second = journal.call(&call("ann", "mail"), false).await;
    let second = second.expect("receipt");
    assert_eq!(
        journal.called(first, &done(), true).await.expect("record"),
        5
    );
    let ann = Filter {
        subject: Some("ann".to_owned()),
        ..Filter::default()
    };
    let (two, four) = ((2, "done".to_owned()), (4, "running".to_owned()));
    assert_eq!(found(&path, &ann), [two.clone(), four.clone()]);
    // Given up: nobody knows what became of it.
    drop(second);
    let lines = records(&path);
    assert_eq!(lines[5]["record"], "outcome_unknown");
    assert_eq!(lines[5]["begun"], 4);
    let four = (4, "outcome_unknown".to_owned());
    assert_eq!(found(&path, &ann), [two.clone(), four.clone()]);
    let three = (3, "rate_limited".to_owned());
    for (filter, expected) in [
        (
            by(|filter| filter.tool = Some("mail".to_owned())),
            vec![four.clone()],
        ),
        (
            by(|filter| filter.outcome = Some("rate_limited".to_owned())),
            vec![three.clone()],
        ),
        (
            by(|filter| filter.token = Some("token-of-bob".to_owned())),
            vec![three.clone()],
        ),
        (
            by(|filter| filter.client = Some("desk".to_owned())),
            vec![three, two, four],
        ),
        (by(|filter| filter.since = Some("2999".to_owned())), vec![]),
        (
            by(|filter| filter.until = Some("2001-01-01".to_owned())),
            vec![],
        ),
        (by(|filter| filter.verb = Some("read".to_owned())), vec![]),
    ] {
        assert_eq!(found(&path, &filter), expected, "{filter:?}");
    }
    drop(journal);
    verify(&path, &Against::default()).expect("whole");
}

#[tokio::test]
async fn a_call_is_recorded_whatever_a_caller_sends() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let mut large = call("ann", &"ä\u{0}\n\"".repeat(1 << 18));
    large.purpose = Some("\u{1f980}".repeat(1 << 18));
    let refusal = Refusal {
        code: "unknown_or_forbidden",
        detail: &"x".repeat(1 << 20),
    };
    journal.refused(&large, refusal).await.expect("a record");
    let line = records(&path).pop().expect("a line");
    let tool = line["tool"].as_str().expect("text");
    assert!(tool.len() < 600 && tool.contains("… and "), "{tool}");
    assert_eq!(line["code"], "unknown_or_forbidden");
    drop(journal);
    verify(&path, &Against::default()).expect("whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sync_serves_all_who_wait_and_all_are_soon_signed() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let journal = Arc::new(journal);
    let mut calls = JoinSet::new();
    for number in 0..500 {
        let journal = Arc::clone(&journal);
        calls.spawn(async move {
            let durable = number % 2 == 0;
            let receipt = journal.call(&call("ann", "invoice"), durable).await;
            let receipt = receipt.expect("receipt");
            journal
                .called(receipt, &done(), durable)
                .await
                .expect("record");
        });
    }
    calls.join_all().await;
    let began = Instant::now();
    // While it is open, too.
    let whole = loop {
        let whole = verify(&path, &Against::default()).expect("whole");
        if whole.signed == 1001 && journal.numbers().lag == Duration::ZERO {
            break whole;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{whole:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((whole.last, whole.signed, whole.open), (1001, 1001, 0));
    assert_eq!(journal.numbers().records, 1001);
}

#[tokio::test]
async fn a_session_after_a_call_does_not_keep_the_disk_busy() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let receipt = journal.call(&call("ann", "invoice"), true).await;
    let receipt = receipt.expect("receipt");
    let done = journal.called(receipt, &done(), true).await;
    done.expect("record");
    let began = Instant::now();
    let ended = journal.leftover(SessionId(7), "session-7");
    ended.expect("record");
    while journal.numbers().lag > Duration::ZERO {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(500), "not at once");
}

#[tokio::test]
async fn what_the_disk_may_not_have_is_not_promised() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let receipt = journal.call(&call("ann", "invoice"), false).await;
    let receipt = receipt.expect("receipt");
    journal.shared().lose();
    assert!(matches!(
        journal.called(receipt, &done(), true).await,
        Err(Error::Disk(_))
    ));
    assert!(!journal.is_whole());
    assert!(journal.call(&call("ann", "invoice"), false).await.is_err());
}

#[test]
fn guessable_values_are_salted() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let other = folder.path().join("other.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let (other, _) = Journal::open(&other).expect("journal");
    let salted = journal.salted(b"42");
    assert_eq!(salted, journal.salted(b"42"));
    assert_ne!(salted, other.salted(b"42"));
    assert_ne!(salted, journal.salted(b"43"));
    drop(journal);
    let (journal, _) = Journal::open(&path).expect("journal");
    assert_eq!(salted, journal.salted(b"42"));
    let key = std::fs::metadata(folder.path().join("journal.key")).expect("key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        records(&path)
            .iter()
            .filter(|line| **line == Value::Null)
            .count(),
        0
    );
}

#[test]
fn what_was_done_about_tokens_is_found_like_calls() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let call = call("ann", "invoice");
    let issued = TokenIssued {
        caller: CALLER,
        principal: call.principal.expect("one"),
        token: call.token.expect("one"),
        tool: Some("invoice"),
        scopes: &["invoice:read".to_owned()],
        purpose: None,
        expires: Timestamp::now(),
    };
    let rotated = KeyRotated {
        caller: CALLER,
        key: "k2",
        forced: true,
    };
    let revoked = |whose| TokensRevoked {
        caller: CALLER,
        whose,
        new_key: None,
    };
    let revoked = [
        Whose::Token(Token { id: "token-of-ann" }),
        Whose::Principal(Holder::Subject("ann")),
        Whose::Principal(Holder::Client("desk")),
        Whose::Tool("invoice"),
        Whose::Key("k2"),
    ]
    .map(revoked);
    let changes = [TokenChange::Issued(&issued), TokenChange::Rotated(&rotated)]
        .into_iter()
        .chain(revoked.iter().map(TokenChange::Revoked));
    for change in changes {
        journal.token(change).expect("recorded");
    }
    drop(journal);
    verify(&path, &Against::default()).expect("whole");
    let lines = records(&path);
    let kinds: Vec<_> = lines.iter().map(|line| &line["record"]).collect();
    assert_eq!(
        kinds[1..4],
        ["token_issued", "token_key_rotated", "tokens_revoked"]
    );
    assert_eq!(lines[2]["forced"], true);
    let outcomes = |filter: Filter| -> Vec<(u64, String)> { found(&path, &filter) };
    let ann = outcomes(Filter {
        subject: Some("ann".to_owned()),
        ..Filter::default()
    });
    assert_eq!(ann, [(2, "issued".to_owned()), (5, "revoked".to_owned())]);
    let token = outcomes(Filter {
        token: Some("token-of-ann".to_owned()),
        ..Filter::default()
    });
    assert_eq!(token, [(2, "issued".to_owned()), (4, "revoked".to_owned())]);
    let revoked = outcomes(Filter {
        outcome: Some("revoked".to_owned()),
        ..Filter::default()
    });
    assert_eq!(revoked.len(), 5);
}

#[test]
fn what_was_not_attached_is_found_by_its_tool_and_by_why() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    for (tool, reason) in [("mail", "holes"), ("web", "no_cgroup")] {
        let record = AttachRefused {
            target: "unit mail.service",
            tool,
            reason,
            why: "because",
            caller: Some(CALLER),
        };
        journal.attach_refused(&record).expect("recorded");
    }
    drop(journal);
    let mail = by(|filter| filter.tool = Some("mail".to_owned()));
    assert_eq!(found(&path, &mail), [(2, "holes".to_owned())]);
    let absent = by(|filter| filter.outcome = Some("no_cgroup".to_owned()));
    assert_eq!(found(&path, &absent), [(3, "no_cgroup".to_owned())]);
}
