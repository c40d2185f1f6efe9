//! A limit on log lines by source: a place of the code and the session that it tells of. A worker that
//! is refused ten thousand times a second fills neither the disk nor the eyes of whoever reads, and
//! takes no line from another session. What is not written is counted.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::{
    Event, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Lines that a source may write at once.
pub(super) const BURST: u32 = 1_000;
/// Lines that it may write in the long run, a second.
pub(super) const PER_SECOND: u32 = 100;
/// Sources whose lines are counted; beyond them those of a place share one count.
const SOURCES_MAX: usize = 8_192;
/// Field that names the session.
const SESSION: &str = "session.id";

/// Lines that no logger of this process wrote.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Log lines that were suppressed so far.
pub(super) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// The layer that lets lines pass, or not.
#[derive(Default)]
pub(super) struct LineLimit {
    sources: Mutex<HashMap<Source, Bucket>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Source {
    place: Identifier,
    session: Option<u64>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Lines that may be written at `at`.
    left: f64,
    at: Instant,
}

impl<S: Subscriber> Layer<S> for LineLimit {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let mut session = Session(None);
        event.record(&mut session);
        let source = Source {
            place: event.metadata().callsite(),
            session: session.0,
        };
        let passes = self.passes(source, Instant::now());
        if !passes {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }
}

impl LineLimit {
    fn passes(&self, mut source: Source, now: Instant) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.contains_key(&source) && sources.len() >= SOURCES_MAX {
            sources.retain(|_, bucket| bucket.at(now) < f64::from(BURST));
            if sources.len() >= SOURCES_MAX {
                source.session = None;
            }
        }
        let bucket = sources.entry(source).or_insert(Bucket {
            left: BURST.into(),
            at: now,
        });
        bucket.left = bucket.at(now);
        bucket.at = now;
        let passes = bucket.left >= 1.0;
        if passes {
            bucket.left -= 1.0;
        }
        passes
    }
}

impl Bucket {
    /// What is left of it at a later moment.
    fn at(&self, now: Instant) -> f64 {
        let passed: Duration = now.saturating_duration_since(self.at);
        let gained = passed.as_secs_f64() * f64::from(PER_SECOND);
        (self.left + gained).min(f64::from(BURST))
    }
}

struct Session(Option<u64>);

impl Visit for Session {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == SESSION {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tracing::{Level, callsite::Callsite as _, level_filters::LevelFilter};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{BURST, LineLimit, PER_SECOND, SOURCES_MAX, Source};

    fn source(session: u64) -> Source {
        Source {
            place: crate::observe::line_limit::tests::place(),
            session: Some(session),
        }
    }

    fn place() -> tracing::callsite::Identifier {
        static PLACE: tracing::callsite::DefaultCallsite =
            tracing::callsite::DefaultCallsite::new(&META);
        static META: tracing::Metadata<'static> = tracing::Metadata::new(
            "line",
            "test",
            Level::INFO,
            None,
            None,
            None,
            tracing::field::FieldSet::new(&[], tracing::callsite::Identifier(&PLACE)),
            tracing::metadata::Kind::EVENT,
        );
        PLACE.metadata().callsite()
    }

    #[test]
    fn a_source_writes_its_burst_and_then_its_rate() {
        let limit = LineLimit::default();
        let begin = Instant::now();
        let passed = (0..BURST * 2).filter(|_| limit.passes(source(1), begin));
        assert_eq!(passed.count(), BURST as usize);
        assert!(limit.passes(source(2), begin), "another session's");
        let later = begin + Duration::from_secs(2);
        let passed = (0..BURST).filter(|_| limit.passes(source(1), later));
        assert_eq!(passed.count(), 2 * PER_SECOND as usize);
    }

    #[test]
    fn sources_without_end_are_bounded() {
        let limit = LineLimit::default();
        let now = Instant::now();
        for session in 0..2 * SOURCES_MAX as u64 {
            let _passes = limit.passes(source(session), now);
        }
        assert!(limit.sources.lock().expect("sources").len() <= SOURCES_MAX + 1);
    }

    #[test]
    fn lines_are_counted_by_the_session_that_they_name() {
        let before = super::suppressed();
        let subscriber = tracing_subscriber::registry()
            .with(LevelFilter::INFO)
            .with(LineLimit::default());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..BURST + 5 {
                tracing::info!(session.id = 7_u64, "line");
            }
            for _ in 0..5 {
                tracing::info!(session.id = 8_u64, "another line");
            }
        });
        assert_eq!(super::suppressed() - before, 5);
    }
}
