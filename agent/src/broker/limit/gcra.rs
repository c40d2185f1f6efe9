//! The generic cell rate algorithm, as one pure function: so many at once, then one more each time its
//! share of the period has passed.
//!
//! Looking and charging are apart, so that a call that one window refuses burns no other window. (The
//! `governor` crate charges as it looks; the tests hold this function against it.)

use std::time::Duration;

/// Nanoseconds since the limiter began.
pub(super) type Nanos = u64;

/// A window: its burst and the time that one call takes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// One call's share of the period.
    share: Nanos,
    /// How far ahead of now the calls may run: the burst less one.
    slack: Nanos,
}

impl Window {
    /// `count` calls in `per`.
    pub(super) fn new(count: u32, per: Duration) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let share = per.checked_div(u64::from(count)).unwrap_or(u64::MAX).max(1);
        let slack = share.saturating_mul(u64::from(count).saturating_sub(1));
        Self { share, slack }
    }

    /// The next theoretical arrival if the call is taken, or how long until it would be. `arrival` is what
    /// was said the last time, 0 at first.
    pub(super) fn take(self, arrival: Nanos, now: Nanos) -> Result<Nanos, Duration> {
        let earliest = arrival.saturating_sub(self.slack);
        if now < earliest {
            return Err(Duration::from_nanos(earliest.saturating_sub(now)));
        }
        Ok(arrival.max(now).saturating_add(self.share))
    }
}
