//! Tools that fail, and who may still call them.

use std::time::{Duration, Instant};

use super::{super::Limiter, folder, fresh, limiter, reason, verb, who};
use crate::{broker::reason::Reason, policy::compiled::Verb};

fn fail(limiter: &Limiter, verb: &Verb, subject: &str, now: Instant) {
    limiter
        .admit(&who(subject), verb, fresh(), now)
        .unwrap()
        .failed_at(now);
}

#[test]
fn a_tool_that_fails_rests_and_one_call_tries() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("");
    let now = Instant::now();
    let admit = |now| limiter.admit(&who("a"), &verb, fresh(), now);
    (0..5).for_each(|_| fail(&limiter, &verb, "a", now));
    let (why, wait) = reason(admit(now));
    assert_eq!((why, wait), (Reason::BreakerOpen, Duration::from_secs(10)));
    let now = now + Duration::from_secs(10);
    let trial = admit(now).unwrap();
    assert_eq!(reason(admit(now)).0, Reason::BreakerOpen);
    trial.failed_at(now);
    let (_, wait) = reason(admit(now));
    assert_eq!(wait, Duration::from_secs(20));
    let now = now + Duration::from_secs(20);
    drop(admit(now).unwrap());
    admit(now).unwrap().succeeded();
    let both = (admit(now).unwrap(), admit(now).unwrap());
    drop(both);
}

#[test]
fn one_user_can_not_close_a_tool_to_others() {
    let folder = folder();
    let limiter = limiter(&folder);
    let verb = verb("");
    let now = Instant::now();
    (0..5).for_each(|_| fail(&limiter, &verb, "a", now));
    assert!(limiter.admit(&who("a"), &verb, fresh(), now).is_err());
    fail(&limiter, &verb, "b", now);
    drop(limiter.admit(&who("b"), &verb, fresh(), now).unwrap());
    // Several users: the tool itself fails.
    for user in ["c", "d", "e"] {
        fail(&limiter, &verb, user, now);
    }
    assert_eq!(
        reason(limiter.admit(&who("f"), &verb, fresh(), now)).0,
        Reason::BreakerOpen
    );
}
