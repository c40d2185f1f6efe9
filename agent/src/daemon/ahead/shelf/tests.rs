//! How many wait, who gets which, and what goes.

use std::time::{Duration, Instant};

use super::{DEPTH_MAX, Put, Shelves, Taken, WAITING_TIME_MAX};
use crate::policy::compiled::Digest;

const POLICY: Digest = Digest([1; 32]);
const OTHER: Digest = Digest([2; 32]);

fn made(shelves: &mut Shelves<u32>, place: u32, now: Instant) {
    assert!(shelves.begin(POLICY, now));
    assert_eq!(shelves.put(POLICY, place), Put::Waits);
}

fn waiting(shelves: &mut Shelves<u32>, now: Instant) -> u32 {
    match shelves.take(POLICY, now) {
        Taken::Waiting(place) => place,
        other @ (Taken::Soon(_) | Taken::Nothing) => panic!("{other:?}"),
    }
}

fn missed(shelves: &mut Shelves<u32>, now: Instant) {
    assert!(matches!(shelves.take(POLICY, now), Taken::Nothing));
    shelves.want_more(POLICY);
}

#[test]
fn one_waits_until_more_are_wanted_at_once() {
    let (mut shelves, now) = (Shelves::default(), Instant::now());
    assert!(matches!(shelves.take(POLICY, now), Taken::Nothing));
    made(&mut shelves, 1, now);
    assert!(!shelves.begin(POLICY, now), "one is enough");
    assert_eq!(waiting(&mut shelves, now), 1);
    for wanted in 2..=DEPTH_MAX {
        missed(&mut shelves, now);
        for place in 0..wanted {
            made(&mut shelves, u32::try_from(place).unwrap(), now);
        }
        assert!(!shelves.begin(POLICY, now), "{wanted} are enough");
        for place in 0..wanted {
            assert_eq!(waiting(&mut shelves, now) as usize, place, "oldest first");
        }
    }
    missed(&mut shelves, now);
    for place in 0..4 {
        made(&mut shelves, place, now);
    }
    assert!(!shelves.begin(POLICY, now), "never more than that");
    assert!(matches!(shelves.take(OTHER, now), Taken::Nothing));
}

#[test]
fn the_one_that_is_being_made_goes_to_who_asked_first() {
    let (mut shelves, now) = (Shelves::default(), Instant::now());
    assert!(shelves.begin(POLICY, now));
    assert!(!shelves.begin(POLICY, now), "one at a time");
    let Taken::Soon(mut first) = shelves.take(POLICY, now) else {
        panic!("one is being made")
    };
    assert!(matches!(shelves.take(POLICY, now), Taken::Nothing));
    assert_eq!(shelves.put(POLICY, 7), Put::Taken);
    assert_eq!(first.try_recv(), Ok(7));
    // Who went away leaves it to the next one.
    assert!(shelves.begin(POLICY, now));
    drop(shelves.take(POLICY, now));
    assert_eq!(shelves.put(POLICY, 8), Put::Waits);
    assert_eq!(waiting(&mut shelves, now), 8);
    // Nobody waits for what does not come.
    assert!(shelves.begin(POLICY, now));
    let Taken::Soon(second) = shelves.take(POLICY, now) else {
        panic!("one is being made")
    };
    shelves.failed(POLICY);
    assert!(second.blocking_recv().is_err());
    assert!(shelves.begin(POLICY, now), "it is tried again");
}

#[test]
fn what_nobody_needs_goes() {
    let (mut shelves, begin) = (Shelves::default(), Instant::now());
    made(&mut shelves, 1, begin);
    assert_eq!(waiting(&mut shelves, begin), 1);
    for _ in 0..3 {
        missed(&mut shelves, begin);
    }
    for place in 0..4 {
        made(&mut shelves, place, begin);
    }
    assert!(
        shelves.take_idle(begin).is_empty(),
        "nobody could take them yet"
    );
    // Two at once are in use, two are not.
    assert_eq!(
        (waiting(&mut shelves, begin), waiting(&mut shelves, begin)),
        (0, 1)
    );
    made(&mut shelves, 4, begin);
    made(&mut shelves, 5, begin);
    assert_eq!(shelves.take_idle(begin), [2, 3]);
    assert!(!shelves.begin(POLICY, begin), "two are wanted");
    // One stays to the end, for as long as one is asked for at all.
    let end = begin + WAITING_TIME_MAX;
    let shortly_before = end.checked_sub(Duration::from_secs(1)).expect("a time");
    assert_eq!(shelves.take_idle(shortly_before), [4]);
    assert!(shelves.take_idle(shortly_before).is_empty());
    assert_eq!(shelves.take_idle(end), [5]);
    assert_eq!(shelves.counts().count(), 0);
}

#[test]
fn a_policy_that_is_gone_keeps_nothing() {
    let (mut shelves, now) = (Shelves::default(), Instant::now());
    made(&mut shelves, 1, now);
    assert!(shelves.remove(|policy| *policy == OTHER).is_empty());
    assert_eq!(shelves.remove(|policy| *policy == POLICY), [1]);
    // One that was being made when its policy went.
    assert!(shelves.begin(POLICY, now));
    let Taken::Soon(soon) = shelves.take(POLICY, now) else {
        panic!("one is being made")
    };
    assert!(shelves.remove(|_| true).is_empty());
    assert!(soon.blocking_recv().is_err());
    assert_eq!(shelves.put(POLICY, 2), Put::Unwanted(2));
}

#[test]
fn what_has_ended_is_taken_out() {
    let (mut shelves, now) = (Shelves::default(), Instant::now());
    made(&mut shelves, 1, now);
    assert_eq!(waiting(&mut shelves, now), 1);
    missed(&mut shelves, now);
    made(&mut shelves, 2, now);
    made(&mut shelves, 3, now);
    assert_eq!(shelves.take_unfit(|place| *place != 2), [2]);
    assert_eq!(shelves.counts().collect::<Vec<_>>(), [(POLICY, 1)]);
    assert!(shelves.begin(POLICY, now), "another one is wanted");
}
