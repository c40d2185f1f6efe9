//! A worker has answered; what it said is foreign still.

use std::time::Duration;

use super::recorded::Recorded;
use crate::broker::worker::Answer;

/// A call whose worker has answered. Only [`super::running::Running::finish`] makes one.
#[must_use]
pub struct Finished {
    recorded: Recorded,
    answer: Answer,
    session: u64,
    took: Duration,
}

impl Finished {
    pub(super) fn new(recorded: Recorded, answer: Answer, session: u64, took: Duration) -> Self {
        Self {
            recorded,
            answer,
            session,
            took,
        }
    }

    /// The parts, for whoever checks the answer.
    pub(super) fn into_parts(self) -> (Recorded, Answer, u64, Duration) {
        (self.recorded, self.answer, self.session, self.took)
    }
}
