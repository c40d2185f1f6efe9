//! The self-test of a fence: what the process that would become a worker tries, once per policy,
//! when every layer is in force and instead of its program. Each attempt is one that no policy can
//! allow; an answer that is not the fence's own is a hole, and nothing of that policy is launched.
//!
//! The attempts themselves are in the program of process 1 (`sys/process_one/attempts`): the worker's
//! process makes them between the last layer and its end.

use std::fmt;

use crate::{
    launcher::Exit,
    sys::errand::{CALL, CONNECT, FAMILY, READ, REPORT, WRITE},
};

const ATTEMPTS: [(u8, &str); 5] = [
    (CONNECT, "connect"),
    (READ, "read"),
    (WRITE, "write"),
    (FAMILY, "socket family"),
    (CALL, "system call"),
];
const _: () = assert!(REPORT & Slipped::ALL == 0);

/// The attempts that the fence did not refuse.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[must_use]
pub struct Slipped(u8);

impl Slipped {
    const ALL: u8 = CONNECT | READ | WRITE | FAMILY | CALL;

    /// Whether the fence held.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = ATTEMPTS.iter();
        all.filter_map(move |(attempt, name)| (self.0 & attempt != 0).then_some(*name))
    }

    /// Reads the report; none where the process ended in any other way.
    #[must_use]
    pub fn reported(exit: Exit) -> Option<Self> {
        match exit {
            Exit::Code(code) if code & !Self::ALL == REPORT => Some(Self(code & Self::ALL)),
            Exit::Code(_) | Exit::Signal(_) => None,
        }
    }
}

impl fmt::Display for Slipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.names().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, CALL, CONNECT, REPORT, Slipped};
    use crate::{launcher::Exit, sys::trial};

    #[test]
    fn a_report_survives_its_way_and_nothing_else_is_one() {
        for bits in 0..=Slipped::ALL {
            let reported = Slipped::reported(Exit::Code(REPORT | bits));
            assert_eq!(reported, Some(Slipped(bits)));
        }
        for code in [0, 1, 31, 0x60, 125, 126, 127, 255] {
            assert_eq!(Slipped::reported(Exit::Code(code)), None, "{code}");
        }
        assert_eq!(Slipped::reported(Exit::Signal(31)), None);
    }

    #[test]
    fn what_slipped_has_names() {
        assert_eq!(Slipped::default().to_string(), "");
        assert_eq!(Slipped(CONNECT | CALL).to_string(), "connect, system call");
        assert_eq!(Slipped(Slipped::ALL).names().count(), ATTEMPTS.len());
    }

    /// The control: without a fence nothing is refused, so every attempt can succeed.
    #[test]
    fn without_a_fence_everything_slips() {
        let slipped = Slipped(trial::attempt());
        assert_eq!(slipped, Slipped(Slipped::ALL), "{slipped}");
    }
}
