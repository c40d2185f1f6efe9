//! The kernel's clock of events against the wall clock.

use std::{
    ops::Add,
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, suspended time included: the clock of [`common::event::Event`].
#[must_use]
pub fn boot_ns() -> u64 {
    // The kernel has had this clock since 2.6.39; it can not fail with a valid place to write to.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// An instant of the kernel's clock: nanoseconds since boot, suspended time included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BootTime(pub u64);

impl BootTime {
    /// This instant.
    #[must_use]
    pub fn now() -> Self {
        Self(boot_ns())
    }

    /// How long after another instant it is; nothing if it is before.
    #[must_use]
    pub fn since(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(other.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    /// Never wraps: an instant beyond the clock's end is its end.
    fn add(self, after: Duration) -> Self {
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(after))
    }
}

/// The wall-clock time of an event that was stamped with nanoseconds since boot.
#[must_use]
pub fn wall(stamp_boot_ns: u64) -> SystemTime {
    let ago = Duration::from_nanos(boot_ns().saturating_sub(stamp_boot_ns));
    SystemTime::now()
        .checked_sub(ago)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
