//! How long a decided reply stands, and for whom.

use std::sync::Arc;

use common::id::{Generation, SessionId};

use super::{REPLIES_MAX, Ready, Reply};
use crate::{
    clock::BootTime,
    dns::{
        answer::{Answer, Records},
        asker::Asker,
        cache::Kept,
        query::{self, HEADER_BYTES},
        reply::Code,
        stats::Served,
    },
    policy::compile,
};

const S: u64 = 1_000_000_000;

fn asker() -> Asker {
    let policy = compile("t.toml", "version = 1\ntool = \"t\"\n").expect("a policy");
    Asker {
        session: SessionId(1),
        policy: Arc::new(policy),
        generation: Generation(1),
    }
}

/// A query for a name of one label with this type.
fn bytes(label: &str, record: u8) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.push(u8::try_from(label.len()).expect("short"));
    bytes.extend_from_slice(label.as_bytes());
    bytes.extend_from_slice(&[0, 0, record, 0, 1]);
    bytes
}

fn reply(minute_ns: Option<u64>) -> Reply {
    Reply {
        code: Code::NoError,
        served: Served::Answered,
        count: 1,
        records: Box::new([1, 2, 3]),
        minute_ns,
        ends_ns: 10 * S,
    }
}

fn at(ns: u64) -> BootTime {
    BootTime(ns)
}

#[test]
fn it_stands_for_its_policy_its_minute_and_its_second() {
    let (asker, other) = (asker(), asker());
    let bytes = bytes("a", 1);
    let query = query::read(&bytes).expect("a query");
    let mut ready = Ready::default();
    ready.keep(&asker, &query, reply(Some(3)));
    let found = |asker: &Asker, minute, now| ready.find(asker, &query, minute, now).is_some();
    assert!(found(&asker, Some(3), at(9 * S)));
    assert!(!found(&asker, Some(3), at(10 * S)), "over");
    assert!(!found(&asker, Some(4), at(9 * S)), "another minute");
    assert!(!found(&asker, None, at(9 * S)), "the minute is over");
    assert!(!found(&other, Some(3), at(9 * S)), "another policy");
    let pushed = Asker {
        generation: Generation(2),
        ..asker.clone()
    };
    assert!(!found(&pushed, Some(3), at(9 * S)), "another generation");
}

#[test]
fn names_are_one_in_any_letters_and_types_are_not() {
    let asker = asker();
    let mut ready = Ready::default();
    let lower = bytes("name", 65);
    ready.keep(&asker, &query::read(&lower).expect("a query"), reply(None));
    let found = |bytes: &[u8]| {
        let query = query::read(bytes).expect("a query");
        ready.find(&asker, &query, None, at(S)).is_some()
    };
    assert!(found(&bytes("nAmE", 65)));
    // 65 is a capital letter, 97 the small one.
    assert!(!found(&bytes("name", 97)));
    assert!(!found(&bytes("eman", 65)));
}

#[test]
fn what_a_session_holds_is_bounded() {
    let asker = asker();
    let mut ready = Ready::default();
    for number in 0..3 * REPLIES_MAX {
        let bytes = bytes(&format!("n{number}"), 1);
        let query = query::read(&bytes).expect("a query");
        ready.keep(&asker, &query, reply(None));
        assert!(ready.find(&asker, &query, None, at(S)).is_some());
        assert!(ready.replies.len() <= REPLIES_MAX);
    }
    let bytes = bytes("long", 1);
    let query = query::read(&bytes).expect("a query");
    let long = Reply {
        records: vec![0; 4_096].into(),
        ..reply(None)
    };
    ready.keep(&asker, &query, long);
    assert!(ready.find(&asker, &query, None, at(S)).is_none());
}

#[test]
fn a_reply_ends_when_its_time_to_live_changes() {
    let kept = |expires_ns| Kept {
        answer: Arc::new(Answer {
            code: Code::NoError,
            aliases: Vec::new(),
            records: Records::Addresses(Vec::new()),
            ttl: 300,
        }),
        expires_ns,
    };
    for (expires_ns, now, end) in [
        (300 * S, 0, S),
        (300 * S, S / 2, S),
        (300 * S, S, 2 * S),
        (300 * S, 299 * S + 1, 300 * S),
        (300 * S, 300 * S, 300 * S),
        // Over, and given still: never again from here.
        (300 * S, 301 * S, 300 * S),
    ] {
        let kept = kept(expires_ns);
        let ends = Reply::end(&kept, at(now));
        assert_eq!(ends, end, "at {now}");
        if ends > now {
            assert_eq!(kept.ttl(now), kept.ttl(ends - 1), "at {now}");
            assert!(kept.ttl(ends) < kept.ttl(now), "at {now}");
        }
    }
}

#[test]
fn the_records_of_a_written_reply_are_found() {
    let bytes = bytes("a", 1);
    let query = query::read(&bytes).expect("a query");
    let mut out = Vec::new();
    let kept = reply(None);
    assert!(kept.write(&query, 512, &mut out));
    assert_eq!(Reply::records(&query, &out), Some((1, &[1, 2, 3][..])));
    assert!(!kept.write(&query, HEADER_BYTES, &mut out), "no room");
}
