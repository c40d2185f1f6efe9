//! What failed tests printed, kept so that it can be said once more at the end: in a long run nobody
//! finds it where it was first.

use std::collections::VecDeque;

/// Of one test so many lines are kept from its beginning …
const HEAD: usize = 60;
/// … and so many from its end; a panic's sentence is in one of them.
const TAIL: usize = 20;
/// A line is cut after so many characters.
const WIDTH: usize = 400;

/// Takes the lines of the test harness and keeps what stands below `---- name stdout ----`.
#[derive(Default)]
pub(crate) struct Failures {
    kept: Vec<Failure>,
    is_inside: bool,
}

struct Failure {
    name: String,
    head: Vec<String>,
    tail: VecDeque<String>,
    left_out: usize,
}

impl Failures {
    /// The next line, without its end.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(name) = name(line) {
            self.kept.push(Failure {
                name: name.to_owned(),
                head: Vec::new(),
                tail: VecDeque::new(),
                left_out: 0,
            });
            self.is_inside = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.is_inside = false;
        } else if let (true, Some(failure)) = (self.is_inside, self.kept.last_mut()) {
            failure.line(line);
        }
    }

    /// As it is said at the end; empty when nothing failed.
    pub(crate) fn told(&self) -> String {
        let mut told = Vec::new();
        for failure in &self.kept {
            told.push(format!("\n---- {} ----", failure.name));
            told.extend(failure.head.iter().cloned());
            if failure.left_out > 0 {
                told.push(format!("[{} lines are above]", failure.left_out));
            }
            told.extend(failure.tail.iter().cloned());
        }
        told.join("\n")
    }
}

impl Failure {
    fn line(&mut self, line: &str) {
        let line: String = line.chars().take(WIDTH).collect();
        if self.head.len() < HEAD {
            self.head.push(line);
            return;
        }
        self.tail.push_back(line);
        if self.tail.len() > TAIL {
            self.tail.pop_front();
            self.left_out += 1;
        }
    }
}

/// The name in `---- name stdout ----`.
fn name(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::{Failures, HEAD, TAIL};

    fn told(lines: &[&str]) -> String {
        let mut failures = Failures::default();
        for line in lines {
            failures.line(line);
        }
        failures.told()
    }

    #[test]
    fn what_failed_tests_printed_is_kept() {
        let said = told(&[
            "test a::b ... FAILED",
            "",
            "failures:",
            "",
            "---- a::b stdout ----",
            "thread 'a::b' panicked at a.rs:1:1:",
            "no answer",
            "---- c stdout ----",
            "another",
            "",
            "failures:",
            "    a::b",
            "    c",
            "",
            "test result: FAILED. 0 passed; 2 failed",
        ]);
        let wanted = "\n---- a::b ----\nthread 'a::b' panicked at a.rs:1:1:\nno answer\n\n---- c ----\nanother\n";
        assert_eq!(said, wanted);
    }

    #[test]
    fn nothing_is_said_of_tests_that_passed() {
        assert_eq!(
            told(&[
                "running 1 test",
                "test a ... ok",
                "test result: ok. 1 passed"
            ]),
            ""
        );
    }

    #[test]
    fn a_long_output_is_cut_in_its_middle() {
        let lines: Vec<_> = (0..HEAD + TAIL + 5).map(|line| line.to_string()).collect();
        let mut all = vec!["---- a stdout ----"];
        all.extend(lines.iter().map(String::as_str));
        let said = told(&all);
        assert!(said.contains("\n59\n[5 lines are above]\n65\n"), "{said}");
        assert!(said.ends_with("\n84"), "{said}");
    }
}
