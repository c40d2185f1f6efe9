//! Calls that ask for a place, and how many get one.

mod breaker;
mod daily;

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use governor::{Quota, RateLimiter, clock::FakeRelativeClock};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Limiter, Permit, Who, gcra::Window};
use crate::{
    broker::reason::{Reason, Refused},
    policy::{compile_with, compiled::Verb},
};

const SCHEMA: &[u8] = br#"{"type": "object", "additionalProperties": false}"#;

fn verb(limits: &str) -> Verb {
    let text = format!(
        "version = 1\ntool = \"t\"\n[worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"json\"\n\
         [filesystem]\nexecute = [\"/usr/bin\"]\n\
         [[verb]]\nname = \"v\"\nscope = \"t:v\"\narguments = \"a.json\"\n[verb.limits]\n{limits}\n"
    );
    let mut documents = |_: &str| Ok(SCHEMA.to_vec());
    let policy =
        compile_with("t.toml", &text, &mut documents).unwrap_or_else(|error| panic!("{error}"));
    policy.verb("v").unwrap().clone()
}

fn who(subject: &str) -> Who<'_> {
    Who {
        issuer: "https://issuer.example",
        subject,
        client: "client",
        session: Some("session"),
        tool: "t",
        verb: "v",
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn limiter(folder: &TempDir) -> Limiter {
    Limiter::open(&folder.path().join("quotas")).unwrap()
}

/// A digest that no other call of the tests has.
fn fresh() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    digest
}

fn reason(admitted: Result<Permit, Refused>) -> (Reason, Duration) {
    let refused = admitted.map(drop).unwrap_err();
    (refused.reason, refused.retry_after.unwrap())
}

#[test]
fn a_rate_gives_its_burst_and_then_its_share() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("rate = \"3/min per user\"");
    let now = Instant::now();
    let admit = |subject, now| limiter.admit(&who(subject), &verb, fresh(), now);
    for _ in 0..3 {
        admit("a", now).unwrap().succeeded();
    }
    let (why, wait) = reason(admit("a", now));
    assert_eq!((why, wait), (Reason::RateLimited, Duration::from_secs(20)));
    admit("b", now).unwrap().succeeded();
    assert!(admit("a", now + Duration::from_secs(19)).is_err());
    admit("a", now + Duration::from_secs(20))
        .unwrap()
        .succeeded();
    assert!(admit("a", now + Duration::from_secs(21)).is_err());
}

#[test]
fn a_refused_call_burns_no_other_window() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("rate = [\"1/min per user\", \"2/hour per verb\"]");
    let now = Instant::now();
    limiter
        .admit(&who("a"), &verb, fresh(), now)
        .unwrap()
        .succeeded();
    for _ in 0..100 {
        let (why, _) = reason(limiter.admit(&who("a"), &verb, fresh(), now));
        assert_eq!(why, Reason::RateLimited);
    }
    limiter
        .admit(&who("b"), &verb, fresh(), now)
        .unwrap()
        .succeeded();
    let (why, wait) = reason(limiter.admit(&who("c"), &verb, fresh(), now));
    assert_eq!((why, wait.as_secs()), (Reason::RateLimited, 1_800));
}

#[test]
fn one_of_a_thousand_gets_the_last_place() {
    for (limits, expected, why) in [
        (
            "rate = \"7/day per user\"\nconcurrency = 4096",
            7,
            Reason::RateLimited,
        ),
        ("concurrency = 7", 7, Reason::ConcurrencyLimited),
        (
            "per_day = \"7 per user\"\nconcurrency = 4096",
            7,
            Reason::QuotaSpent,
        ),
        ("repeats = 7\nconcurrency = 4096", 7, Reason::LoopGuard),
    ] {
        let folder = folder();
        let limiter = limiter(&folder);
        let verb = verb(limits);
        let (won, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let barrier = Barrier::new(40);
        let same = fresh();
        let held: Vec<Permit> = thread::scope(|scope| {
            let run = || {
                barrier.wait();
                let mut held = Vec::new();
                for _ in 0..25 {
                    let digest = if why == Reason::LoopGuard {
                        same
                    } else {
                        fresh()
                    };
                    match limiter.admit(&who("a"), &verb, digest, Instant::now()) {
                        Ok(permit) => {
                            won.fetch_add(1, Ordering::Relaxed);
                            held.push(permit);
                        }
                        Err(refused) => {
                            assert_eq!(refused.reason, why);
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                held
            };
            let threads: Vec<_> = (0..40).map(|_| scope.spawn(run)).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(won.load(Ordering::Relaxed), expected, "{limits}");
        assert_eq!(lost.load(Ordering::Relaxed), 1_000 - expected, "{limits}");
        drop(held);
        assert_eq!(limiter.sizes().running, 0);
    }
}

#[test]
fn a_dropped_permit_gives_its_place_back() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("concurrency = 1");
    let now = Instant::now();
    let held = limiter.admit(&who("a"), &verb, fresh(), now).unwrap();
    let (why, _) = reason(limiter.admit(&who("b"), &verb, fresh(), now));
    assert_eq!(why, Reason::ConcurrencyLimited);
    drop(held);
    let held = limiter.admit(&who("b"), &verb, fresh(), now).unwrap();
    let panicked = thread::spawn(move || {
        let _held = held;
        panic!("a call that ends badly");
    });
    assert!(panicked.join().is_err());
    limiter
        .admit(&who("b"), &verb, fresh(), now)
        .unwrap()
        .succeeded();
}

#[test]
fn equal_calls_in_a_row_are_a_loop_until_another_call_or_a_minute() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("repeats = 2");
    let (one, other) = (fresh(), fresh());
    let now = Instant::now();
    let admit = |digest, now| limiter.admit(&who("a"), &verb, digest, now);
    admit(one, now).unwrap().succeeded();
    admit(one, now).unwrap().succeeded();
    let (why, wait) = reason(admit(one, now + Duration::from_secs(20)));
    assert_eq!((why, wait), (Reason::LoopGuard, Duration::from_secs(40)));
    admit(one, now + Duration::from_mins(1))
        .unwrap()
        .succeeded();
    admit(other, now + Duration::from_secs(61))
        .unwrap()
        .succeeded();
    admit(one, now + Duration::from_secs(62))
        .unwrap()
        .succeeded();
}

#[test]
fn a_full_table_refuses_and_forgets_nobody() {
    let folder = folder();
    let file = folder.path().join("quotas");
    let limiter = Limiter::with_room(&file, SystemTime::now, 4).unwrap();
    let verb = verb("rate = \"1/min per user\"");
    let now = Instant::now();
    for user in ["a", "b", "c", "d"] {
        limiter
            .admit(&who(user), &verb, fresh(), now)
            .unwrap()
            .succeeded();
    }
    assert_eq!(
        reason(limiter.admit(&who("e"), &verb, fresh(), now)).0,
        Reason::LimiterFull
    );
    assert_eq!(
        reason(limiter.admit(&who("a"), &verb, fresh(), now)).0,
        Reason::RateLimited
    );
    let later = now + Duration::from_secs(61);
    limiter
        .admit(&who("e"), &verb, fresh(), later)
        .unwrap()
        .succeeded();
    assert_eq!(limiter.sizes().rates, 1);
}

#[test]
fn no_two_callers_share_a_key() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("rate = \"1/day per session\"");
    let base = who("a");
    let others = [
        base,
        Who {
            issuer: "https://issuer.examplea",
            subject: "",
            ..base
        },
        Who {
            subject: "ab",
            client: "",
            ..base
        },
        Who {
            client: "clients",
            session: Some("ession"),
            ..base
        },
        Who {
            session: None,
            ..base
        },
        Who {
            tool: "tv",
            verb: "",
            ..base
        },
    ];
    for other in others {
        limiter
            .admit(&other, &verb, fresh(), Instant::now())
            .unwrap()
            .succeeded();
    }
    for other in others {
        assert!(
            limiter
                .admit(&other, &verb, fresh(), Instant::now())
                .is_err()
        );
    }
}

proptest! {
    /// The pure function takes exactly what the crate takes that the world uses.
    #[test]
    fn windows_agree_with_governor(
        count in 1_u32..40,
        seconds in 1_u64..100,
        steps in prop::collection::vec(0_u64..3_000, 1..200),
    ) {
        let period = Duration::from_secs(seconds);
        let clock = FakeRelativeClock::default();
        let share = period / count;
        prop_assume!(!share.is_zero());
        let quota = Quota::with_period(share).unwrap().allow_burst(NonZeroU32::new(count).unwrap());
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let ours = Window::new(count, period);
        // Theirs begins at zero as well.
        let (mut arrival, mut now) = (0, 0);
        for step in steps {
            clock.advance(Duration::from_millis(step));
            now += step * 1_000_000;
            let taken = ours.take(arrival, now);
            prop_assert_eq!(taken.is_ok(), theirs.check().is_ok());
            arrival = taken.unwrap_or(arrival);
        }
    }
}

/// What a call costs, for the numbers of the docs: `cargo test --release … cost -- --nocapture`.
#[test]
fn the_cost_of_a_place_is_small() {
    let folder = folder();
    let limiter = Arc::new(limiter(&folder));
    let verb = verb(
        "rate = [\"1000000/sec per user\", \"1000000/sec per tool\"]\nper_day = \"1000000 per user\"",
    );
    let subjects: Vec<String> = (0..100).map(|user| format!("user-{user}")).collect();
    let mut count: HashMap<bool, u32> = HashMap::new();
    let begin = Instant::now();
    for turn in 0..10_000_usize {
        let admitted = limiter.admit(&who(&subjects[turn % 100]), &verb, fresh(), Instant::now());
        *count
            .entry(admitted.map(Permit::succeeded).is_ok())
            .or_default() += 1;
    }
    let each = begin.elapsed() / 10_000;
    println!("admit and release: {each:?} a call, {count:?}");
    assert_eq!(count.get(&true), Some(&10_000));
}
