//! The cache keeps what it may, as long as it may, in its bounds.

use std::sync::Arc;

use super::{Cache, Kept, NS};
use crate::{
    dns::{
        answer::{Answer, Records},
        gate::Question,
        reply::Code,
    },
    policy::{compiled::Record, domain::DomainName},
};

fn question(number: usize) -> Question {
    Question {
        name: DomainName::parse(&format!("n{number}.example")).expect("a name"),
        record: Record::A,
    }
}

fn kept(ttl: u32, bytes: usize, now_ns: u64) -> Kept {
    let answer = Answer {
        code: Code::NoError,
        aliases: Vec::new(),
        records: Records::Others(vec![vec![0; bytes].into_boxed_slice()]),
        ttl,
    };
    Kept::new(Arc::new(answer), now_ns)
}

#[test]
fn an_answer_ages_and_ends() {
    let mut cache = Cache::new(10, 1 << 20);
    cache.keep(question(1), kept(30, 4, 5 * NS), 5 * NS);
    let ttl = |cache: &mut Cache, now| Some(cache.find(&question(1), now)?.ttl(now));
    assert_eq!(ttl(&mut cache, 5 * NS), Some(30));
    assert_eq!(ttl(&mut cache, 15 * NS), Some(20));
    assert_eq!(ttl(&mut cache, 35 * NS - 1), Some(1));
    assert_eq!(ttl(&mut cache, 35 * NS), None);
    let mut other = question(1);
    other.record = Record::Aaaa;
    assert!(cache.find(&other, 5 * NS).is_none());
}

#[test]
fn an_answer_without_time_to_live_is_kept_for_a_second_and_says_zero() {
    let mut cache = Cache::new(10, 1 << 20);
    cache.keep(question(1), kept(0, 4, NS), NS);
    let found = cache.find(&question(1), NS + NS / 2).expect("kept");
    assert_eq!(found.ttl(NS + NS / 2), 0);
    assert!(cache.find(&question(1), 2 * NS).is_none());
}

#[test]
fn entries_and_bytes_are_bounded_and_what_is_asked_for_stays() {
    let mut cache = Cache::new(100, 1 << 20);
    cache.keep(question(0), kept(600, 4, 0), 0);
    for number in 1..1_000 {
        cache.keep(question(number), kept(600, 4, 0), 0);
        assert!(cache.size().0 <= 100, "{:?}", cache.size());
        assert!(cache.find(&question(0), 0).is_some(), "after {number}");
    }
    assert!(cache.find(&question(1), 0).is_none());
    let mut cache = Cache::new(1_000, 100_000);
    for number in 0..1_000 {
        cache.keep(question(number % 300), kept(600, 1_000, 0), 0);
        assert!(cache.size().1 <= 100_000, "{:?}", cache.size());
    }
    let before = cache.size();
    cache.keep(question(5_000), kept(600, 60_000, 0), 0);
    assert_eq!(cache.size(), before, "more than half of the cache");
}
