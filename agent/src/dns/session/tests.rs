//! Limits, budgets and memories.

use common::{flow::Address, id::SessionId, limits::GRANTS_PER_SESSION_MAX};

use super::{
    Bucket, Budget, EVENTS_PER_SECOND, Gauge, Granted, MINUTE_NS, NS, REFUSALS_PER_SECOND,
    Sessions, State, Window,
};
use crate::dns::settings::Limits;

#[test]
fn a_bucket_holds_its_burst_and_fills_again() {
    let mut bucket = Bucket::default();
    let mut take = |now_ns| bucket.take(10, 20, now_ns).is_ok();
    assert_eq!((0..30).filter(|_| take(NS)).count(), 20);
    assert!(!take(NS + NS / 20));
    assert!(take(NS + NS / 5));
    assert_eq!((0..30).filter(|_| take(60 * NS)).count(), 20);
    // A worker that never pauses gets its rate and no less.
    let mut bucket = Bucket::default();
    let taken = (0..10_000_u64)
        .filter(|step| bucket.take(10, 20, NS + step * NS / 1_000).is_ok())
        .count();
    assert!((115..=120).contains(&taken), "{taken} in 10 s");
}

#[test]
fn names_of_a_minute_are_bounded_in_number_and_bytes() {
    let limits = Limits {
        names_per_minute: 3,
        label_bytes_per_minute: 100,
        ..Limits::DEFAULT
    };
    let mut budget = Budget::default();
    let mut take = |name: &str, bytes, now_ns| budget.take(name, bytes, &limits, now_ns).is_ok();
    let start = 2 * MINUTE_NS;
    assert!(take("a", 2, start) && take("b", 2, start) && take("c", 2, start));
    assert!(!take("d", 2, start), "a fourth name");
    assert!(take("a", 2, start), "the same name again");
    assert!(!take("d", 2, start + MINUTE_NS - 1));
    assert!(take("d", 98, start + MINUTE_NS));
    assert!(!take("e", 3, start + MINUTE_NS), "too many bytes");
    assert!(take("f", 2, start + MINUTE_NS));
}

#[test]
fn events_of_a_second_are_bounded() {
    let mut window = Window::default();
    let sent = (0..1_000).filter(|_| window.take(EVENTS_PER_SECOND, 5 * NS));
    assert_eq!(sent.count(), EVENTS_PER_SECOND as usize);
    assert!(window.take(EVENTS_PER_SECOND, 6 * NS));
}

#[test]
fn what_was_granted_is_remembered_in_bounds() {
    let mut granted = Granted::default();
    for number in 0..2 * u64::from(GRANTS_PER_SESSION_MAX) {
        granted.remember(Address::from_v4([192, 0, 2, 1]), number, 10, 5);
        assert!(granted.ends_ns.len() <= GRANTS_PER_SESSION_MAX as usize);
    }
    let address = Address::from_v4([192, 0, 2, 2]);
    granted.remember(address, 1, 77, 5);
    assert_eq!(granted.until(address, 1), Some(77));
    assert_eq!(granted.until(address, 2), None);
}

#[test]
fn places_are_given_back() {
    let gauge = Gauge::default();
    let first = gauge.take(2).expect("a place");
    let second = gauge.take(2).expect("a place");
    assert!(gauge.take(2).is_none());
    drop(first);
    assert_eq!(gauge.count(), 1);
    let third = gauge.take(2).expect("a place");
    drop((second, third));
    assert_eq!(gauge.count(), 0);
}

#[test]
fn a_session_is_one_until_it_is_forgotten() {
    let sessions = Sessions::default();
    let one = sessions.get(SessionId(1), NS).expect("room");
    let again = sessions.get(SessionId(1), NS).expect("room");
    assert!(std::sync::Arc::ptr_eq(&one, &again));
    drop((one, again));
    for id in 0..5_000 {
        let now_ns = NS + id * MINUTE_NS;
        let session = sessions.get(SessionId(id), now_ns).expect("room");
        session.lock().seen_ns = now_ns;
        assert!(sessions.count() <= 4_096);
    }
    sessions.forget(SessionId(4_999));
    let before = sessions.count();
    sessions.get(SessionId(4_999), NS).expect("room");
    assert_eq!(sessions.count(), before + 1);
}

#[test]
fn a_flood_is_told_so_for_a_while_only() {
    let mut state = State::default();
    let told = |state: &mut State, now_ns| {
        let tries = 0..2 * REFUSALS_PER_SECOND;
        tries.filter(|_| state.may_refuse(now_ns)).count()
    };
    assert_eq!(told(&mut state, 5 * NS), REFUSALS_PER_SECOND as usize);
    assert_eq!(told(&mut state, 5 * NS + NS / 2), 0);
    assert_eq!(told(&mut state, 6 * NS), REFUSALS_PER_SECOND as usize);
}

#[test]
fn a_minute_of_names_is_known_while_it_lasts() {
    let mut budget = Budget::default();
    let start = 2 * MINUTE_NS;
    assert!(budget.take("a", 2, &Limits::DEFAULT, start).is_ok());
    assert!(budget.has("a") && !budget.has("b"));
    assert_eq!(budget.minute_ns(start + MINUTE_NS - 1), Some(start));
    assert_eq!(budget.minute_ns(start + MINUTE_NS), None);
}
