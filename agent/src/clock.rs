//! The kernel's clock of events against the wall clock.

use std::{
    fs, io,
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

/// The boot in which the kernel's clock runs, and an instant of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boot {
    /// No other boot has it (`random(4)`, `boot_id`).
    pub id: u128,
    /// The instant.
    pub now: BootTime,
}

impl Boot {
    /// This boot, at this instant.
    pub fn current() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let id = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        Ok(Self {
            id: id.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            now: BootTime::now(),
        })
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
