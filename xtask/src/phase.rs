//! One phase of `test`: what it runs, and how what came back is counted.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    build,
    failures::Failures,
    process::{self, Ended},
};

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    pub(crate) const fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

/// What a phase does.
pub(crate) enum Work {
    /// Counts as one.
    Check(fn() -> anyhow::Result<()>),
    /// Counts for itself.
    Counted(fn() -> anyhow::Result<Tally>),
    /// Tests of cargo, that count themselves.
    Tests {
        arguments: &'static [&'static str],
        limit: Limit,
    },
}

/// After this tests are ended, and count as failed.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) ordinary: Duration,
    /// With `STOCKADE_LONG`.
    pub(crate) long: Duration,
}

/// A named piece of `test`.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// Whether it means nothing when the build failed.
    pub(crate) wants_build: bool,
    pub(crate) work: Work,
}

/// How a phase ended.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) tally: Tally,
    pub(crate) seconds: f64,
    /// What its failed tests printed; empty when none did.
    pub(crate) told: String,
}

impl Phase {
    /// Runs it and says how it went.
    pub(crate) fn run(&self, long: bool) -> Report {
        eprintln!("\n== {}", self.name);
        let start = Instant::now();
        let mut failures = Failures::default();
        let tally = match &self.work {
            Work::Check(check) => match check() {
                Ok(()) => Tally::PASSED,
                Err(error) => {
                    eprintln!("error: {error:#}");
                    Tally::FAILED
                }
            },
            Work::Counted(count) => count().unwrap_or_else(|error| {
                eprintln!("error: {error:#}");
                Tally::FAILED
            }),
            Work::Tests { arguments, limit } => tests(arguments, *limit, long, &mut failures),
        };
        let seconds = start.elapsed().as_secs_f64();
        let Tally { passed, failed } = tally;
        eprintln!(
            "== {}: {passed} passed, {failed} failed, {seconds:.1} s",
            self.name
        );
        Report {
            name: self.name,
            tally,
            seconds,
            told: failures.told(),
        }
    }
}

fn tests(arguments: &[&str], limit: Limit, long: bool, failures: &mut Failures) -> Tally {
    let mut command: Command = process::cargo();
    command
        .arg("test")
        .args(build::WORKSPACE)
        .arg("--no-fail-fast")
        .args(arguments);
    let limit = if long {
        command.env("STOCKADE_LONG", "1");
        limit.long
    } else {
        limit.ordinary
    };
    let mut tally = Tally::default();
    let mut results = 0;
    let ended = process::watch(&mut command, limit, |line| {
        failures.line(line);
        if let Some(result) = count(line) {
            tally = tally.add(result);
            results += 1;
        }
    });
    let complaint = match ended {
        Ok(Ended::Status(status)) if status.success() => None,
        // A failed test is counted already; a crash or an error of the compiler is not.
        Ok(Ended::Status(_)) if tally.failed > 0 => None,
        Ok(Ended::Status(status)) => Some(format!("ended by {status} without a failed test")),
        Ok(Ended::TooLong(limit)) => Some(format!("ended after {} s", limit.as_secs())),
        Err(error) => Some(format!("{error:#}")),
    };
    let complaint = complaint.or_else(|| (results == 0).then(|| "no test ran".to_owned()));
    if let Some(complaint) = complaint {
        eprintln!("error: {complaint}");
        tally = tally.add(Tally::FAILED);
    }
    tally
}

/// The numbers of a `test result:` line. A test that is ignored has not passed.
pub(crate) fn count(line: &str) -> Option<Tally> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in numbers.split("; ") {
        let (number, word) = part.split_once(' ')?;
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match word {
            "passed" => tally.passed += number,
            "failed" => tally.failed += number,
            "ignored" if number > 0 => {
                eprintln!("error: {number} ignored: no test is ignored to get green");
                tally.failed += number;
            }
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::{Tally, count};

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 3 filtered \
                    out; finished in 0.01s";
        assert_eq!(
            count(line),
            Some(Tally {
                passed: 12,
                failed: 2
            })
        );
    }

    #[test]
    fn an_ignored_test_has_failed() {
        let line = "test result: ok. 1 passed; 0 failed; 4 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            count(line),
            Some(Tally {
                passed: 1,
                failed: 4
            })
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(count("test kernel::maps::tests::layout ... ok"), None);
        assert_eq!(count("running 3 tests"), None);
    }
}
