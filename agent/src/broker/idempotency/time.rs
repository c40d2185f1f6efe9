//! The store's own time: seconds, from when it was made, in which the host ran. A wall clock that jumps,
//! or is set, moves nothing in it, so no key is forgotten early; what passed while the host was off does
//! not count, so a key may be kept longer than a day, and never shorter.

use crate::clock::{Boot, BootTime};

/// What is kept of it: its seconds at a second of a boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) seconds: u64,
    pub(super) boot_seconds: u64,
    pub(super) boot: u128,
}

impl Mark {
    /// As the store keeps it.
    pub(super) fn row(self) -> (u64, u64, u128) {
        (self.seconds, self.boot_seconds, self.boot)
    }
}

impl From<(u64, u64, u128)> for Mark {
    fn from((seconds, boot_seconds, boot): (u64, u64, u128)) -> Self {
        Self {
            seconds,
            boot_seconds,
            boot,
        }
    }
}

/// The running time.
#[derive(Debug)]
pub(super) struct Time(Mark);

impl Time {
    /// Goes on from what was kept, and not before `latest`, the youngest time in the store.
    pub(super) fn go_on(kept: Option<Mark>, latest: u64, boot: Boot) -> Self {
        let here = Mark {
            seconds: latest,
            boot_seconds: seconds(boot.now),
            boot: boot.id,
        };
        Self(match kept {
            // The boot's clock went on while nobody looked.
            Some(kept) if kept.boot == boot.id && kept.boot_seconds <= here.boot_seconds => {
                let passed = here.boot_seconds.saturating_sub(kept.boot_seconds);
                Mark {
                    seconds: kept.seconds.saturating_add(passed).max(latest),
                    ..here
                }
            }
            Some(kept) => Mark {
                seconds: kept.seconds.max(latest),
                ..here
            },
            None => here,
        })
    }

    /// The time at an instant of this boot.
    pub(super) fn at(&self, now: BootTime) -> u64 {
        let passed = seconds(now).saturating_sub(self.0.boot_seconds);
        self.0.seconds.saturating_add(passed)
    }

    /// What is to be kept of an instant.
    pub(super) fn mark(&self, now: BootTime) -> Mark {
        Mark {
            seconds: self.at(now),
            boot_seconds: seconds(now),
            boot: self.0.boot,
        }
    }
}

fn seconds(now: BootTime) -> u64 {
    now.since(BootTime(0)).as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Boot, BootTime, Mark, Time};

    const HOUR: u64 = 3_600;

    fn at(seconds: u64) -> BootTime {
        BootTime(0) + Duration::from_secs(seconds)
    }

    fn boot(id: u128, seconds: u64) -> Boot {
        let now = at(seconds);
        Boot { id, now }
    }

    #[test]
    fn it_goes_on_within_a_boot_and_stands_still_between_two() {
        let time = Time::go_on(None, 0, boot(1, 500));
        assert_eq!(time.at(at(500)), 0);
        let mark = time.mark(at(500 + HOUR));
        assert_eq!(mark.seconds, HOUR);
        // The agent was away for an hour of the same boot.
        let time = Time::go_on(Some(mark), 0, boot(1, 500 + 2 * HOUR));
        assert_eq!(time.at(at(500 + 2 * HOUR)), 2 * HOUR);
        // The host was off, however long; its clock began anew.
        let time = Time::go_on(Some(mark), 0, boot(2, 7 * HOUR));
        assert_eq!(time.at(at(7 * HOUR)), HOUR);
        assert_eq!(time.at(at(8 * HOUR)), 2 * HOUR);
        // A clock of the same boot that went back, which none does, gives nothing.
        let time = Time::go_on(Some(mark), 0, boot(1, 1));
        assert_eq!(time.at(at(1)), HOUR);
    }

    #[test]
    fn it_is_never_before_what_the_store_holds() {
        let mark = Mark {
            seconds: 10,
            boot_seconds: 10,
            boot: 1,
        };
        for kept in [None, Some(mark)] {
            for id in [1, 2] {
                let time = Time::go_on(kept, 1_790_000_000, boot(id, 20));
                assert_eq!(time.at(at(20)), 1_790_000_000);
            }
        }
    }
}
