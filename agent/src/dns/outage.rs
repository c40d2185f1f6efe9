//! What the log says of upstream servers that do not answer: once, then at most once a minute, and
//! once when they are back. Each failure is counted elsewhere; a worker that asks without end must not
//! fill the log.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use hickory_resolver::net::NetError;

use super::{error::AskError, gate::Question, session::lock};

/// Between two warnings.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// Whether upstream answers.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Told of, and not yet told to be over.
    is_told: bool,
    warned: Option<Instant>,
}

impl Outage {
    /// A question had no usable answer.
    pub(super) fn failed(&self, question: &Question, error: &AskError) {
        let name = &question.name;
        if is_answer(error) {
            tracing::debug!(dns.name = %name, %error, "no usable answer from upstream");
            return;
        }
        let now = Instant::now();
        if lock(&self.0).fails(now) {
            tracing::warn!(dns.name = %name, %error, "no answer from upstream servers");
        } else {
            tracing::debug!(dns.name = %name, %error, "no answer from upstream servers");
        }
    }

    /// A question had an answer.
    pub(super) fn answered(&self) {
        if lock(&self.0).answers() {
            tracing::info!("upstream servers answer again");
        }
    }
}

impl State {
    /// Whether to warn.
    fn fails(&mut self, now: Instant) -> bool {
        let late = |warned: Instant| now.saturating_duration_since(warned) >= WARN_EVERY;
        let warns = self.warned.is_none_or(late);
        if warns {
            self.warned = Some(now);
            self.is_told = true;
        }
        warns
    }

    /// Whether that is news.
    fn answers(&mut self) -> bool {
        std::mem::take(&mut self.is_told)
    }
}

/// Whether a server did answer: what it said is the name's fault, or the server's for that name.
fn is_answer(error: &AskError) -> bool {
    match error {
        AskError::Net(NetError::Dns(_)) | AskError::Answer(_) | AskError::Name(_) => true,
        AskError::NoServer | AskError::TimedOut | AskError::Certificate(_) | AskError::Net(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{State, WARN_EVERY};

    #[test]
    fn an_outage_is_told_once_a_minute_and_its_end_once() {
        let mut state = State::default();
        let now = Instant::now();
        assert!(!state.answers(), "it was never down");
        assert!(state.fails(now));
        assert!(!state.fails(now + Duration::from_secs(1)));
        assert!(state.answers() && !state.answers());
        // Down again within the minute: counted, not told again, nor its end.
        assert!(!state.fails(now + Duration::from_secs(2)));
        assert!(!state.answers());
        assert!(state.fails(now + WARN_EVERY));
    }
}
