//! Daily quotas: over restarts, clocks that are set back, torn and damaged files.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{
    super::{Limiter, QuotaError},
    folder, fresh, verb, who,
};
use crate::broker::reason::Reason;

#[test]
fn a_daily_quota_survives_a_restart_and_ends_with_the_day() {
    static DAYS: AtomicU64 = AtomicU64::new(20_000);
    fn wall() -> SystemTime {
        let days = DAYS.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + 86_000)
    }
    let folder = folder();
    let file = folder.path().join("quotas");
    let verb = verb("per_day = [\"2 per user\", \"3 per verb\"]");
    let admit = |subject| {
        let limiter = Limiter::with_clock(&file, wall).unwrap();
        limiter
            .admit(&who(subject), &verb, fresh(), Instant::now())
            .map(drop)
    };
    admit("a").unwrap();
    admit("a").unwrap();
    let refused = admit("a").unwrap_err();
    assert_eq!(refused.reason, Reason::QuotaSpent);
    assert_eq!(refused.retry_after, Some(Duration::from_secs(400)));
    admit("b").unwrap();
    assert_eq!(admit("b").unwrap_err().reason, Reason::QuotaSpent);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A clock that is set back gives nothing back.
    DAYS.store(19_000, Ordering::Relaxed);
    assert_eq!(admit("a").unwrap_err().reason, Reason::QuotaSpent);
    DAYS.store(20_001, Ordering::Relaxed);
    admit("a").unwrap();
}

#[test]
fn a_torn_line_is_no_charge_and_a_damaged_one_is_no_guess() {
    let folder = folder();
    let file = folder.path().join("quotas");
    let verb = verb("per_day = \"9 per user\"");
    for _ in 0..3 {
        let limiter = Limiter::open(&file).unwrap();
        limiter
            .admit(&who("a"), &verb, fresh(), Instant::now())
            .unwrap()
            .succeeded();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    for cut in text.len() - 50..text.len() {
        std::fs::write(&file, &text[..cut]).unwrap();
        Limiter::open(&file).unwrap();
    }
    let first = text.find('\n').unwrap() + 1;
    for at in first..text.len() - 1 {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(&file, &bytes).unwrap();
        let opened = Limiter::open(&file);
        assert!(
            matches!(opened, Err(QuotaError::Damaged { .. })),
            "byte {at}"
        );
    }
    std::fs::write(&file, "something else\n").unwrap();
    assert!(matches!(
        Limiter::open(&file),
        Err(QuotaError::Damaged { line: 1, .. })
    ));
}

#[test]
fn a_quota_that_can_not_be_kept_refuses() {
    let folder = folder();
    assert!(Limiter::open(&folder.path().join("none/quotas")).is_err());
}
