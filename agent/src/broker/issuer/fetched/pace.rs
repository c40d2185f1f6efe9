//! When keys are fetched again: what the server said, within the bounds of the configuration. Pure.

use std::time::Duration;

use hyper::{HeaderMap, header};

/// Doublings of the pause after failures.
const DOUBLINGS_MAX: u32 = 3;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) refresh_min: Duration,
    pub(super) refresh_max: Duration,
    pub(super) pause: Duration,
}

impl Pace {
    /// Time until the next fetch, after one that brought keys which the server calls fresh for
    /// `max_age`: before that is over, so that no call has to wait.
    pub(super) fn after_success(&self, max_age: Option<Duration>) -> Duration {
        let fresh = max_age.unwrap_or(self.refresh_max);
        let early = fresh.saturating_sub(fresh / 4);
        let due = early.clamp(self.refresh_min, self.refresh_max);
        due.max(self.pause)
    }

    /// Time until the next fetch, after this many failures in a row.
    pub(super) fn after_failure(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        self.pause.saturating_mul(1 << doublings)
    }
}

/// For how long an answer is fresh (RFC 9111, 4.2), if it says so.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut found = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if matches!(directive.as_str(), "no-store" | "no-cache") {
                return Some(Duration::ZERO);
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                // What is no number makes the answer stale (RFC 9111, 4.2.1).
                found = Some(seconds.trim_matches('"').parse().unwrap_or(0));
            }
        }
    }
    let age = headers.get(header::AGE).and_then(|age| age.to_str().ok());
    let age: u64 = age.and_then(|age| age.parse().ok()).unwrap_or(0);
    found.map(|seconds: u64| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::{HeaderMap, header};

    use super::{Pace, max_age};

    const PACE: Pace = Pace {
        refresh_min: Duration::from_mins(1),
        refresh_max: Duration::from_mins(15),
        pause: Duration::from_secs(10),
    };

    fn after(cache: &'static str) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, cache.parse().expect("a value"));
        PACE.after_success(max_age(&headers)).as_secs()
    }

    #[test]
    fn the_server_decides_within_bounds() {
        for (cache, seconds) in [
            ("public, Max-Age=400", 300),
            ("max-age=0", 60),
            ("no-store", 60),
            ("max-age=86400, no-cache", 60),
            ("max-age=99999999999999999999", 60),
            ("max-age=-1", 60),
            ("max-age=31536000", 900),
            ("immutable", 675),
        ] {
            assert_eq!(after(cache), seconds, "{cache}");
        }
        let mut aged = HeaderMap::new();
        aged.insert(
            header::CACHE_CONTROL,
            "max-age=500".parse().expect("a value"),
        );
        aged.insert(header::AGE, "100".parse().expect("a value"));
        assert_eq!(PACE.after_success(max_age(&aged)).as_secs(), 300);
        assert_eq!(PACE.after_success(None).as_secs(), 675);
    }

    #[test]
    fn failures_slow_it_down_and_not_for_ever() {
        let after: Vec<_> = [1, 2, 3, 4, 5, u32::MAX]
            .map(|failures| PACE.after_failure(failures).as_secs())
            .into();
        assert_eq!(after, [10, 20, 40, 80, 80, 80]);
    }
}
