//! What is tested on each kernel, and how it is counted.

use std::{fmt::Write as _, path::Path, time::Duration};

use super::{
    Kernel,
    image::Image,
    machine::Machine,
    payload::Payload,
    programs::{Kind, Programs},
};
use crate::{
    architecture::Architecture,
    phase::{self, Tally},
    tree,
};

/// A machine without hardware's help is some ten times slower than its host, and its host may have
/// other work.
const MACHINE_LIMIT: Duration = Duration::from_hours(6);

/// One program that is run in the machine.
struct Step {
    name: &'static str,
    kind: Kind,
    program: &'static str,
    /// The package in whose folder cargo would run it.
    package: &'static str,
    arguments: &'static [&'static str],
    /// After these many seconds the next step gets its turn.
    seconds: u32,
}

const STEPS: [Step; 3] = [
    Step {
        name: "doctor",
        kind: Kind::Program,
        program: "stockade",
        package: "agent",
        arguments: &["doctor"],
        seconds: 300,
    },
    Step {
        name: "kernel",
        kind: Kind::UnitTests,
        program: "agent",
        package: "agent",
        arguments: &["kernel"],
        seconds: 90 * 60,
    },
    Step {
        name: "integration",
        kind: Kind::IntegrationTests,
        program: "it",
        package: "tests",
        arguments: &[],
        seconds: 4 * 60 * 60,
    },
];

const _: () = {
    let mut seconds = 0;
    let mut left = STEPS.as_slice();
    while let [step, rest @ ..] = left {
        seconds += step.seconds as u64;
        left = rest;
    }
    assert!(seconds < MACHINE_LIMIT.as_secs());
};

/// Runs the steps on each of the kernels. Tests are those that a filter chooses, or the step's own.
pub(crate) fn run(kernels: &[Kernel], filters: &[String]) -> anyhow::Result<Tally> {
    let image = Image::ensure()?;
    let programs = Programs::build()?;
    let disk = payload(&programs)?.disk(&script(&programs, filters)?)?;
    let mut reports = Vec::new();
    for &kernel in kernels {
        reports.extend(on(&image, kernel, &disk, !filters.is_empty()));
    }
    eprintln!(
        "\n{:<8}{:<32}{:>8}{:>8}",
        "kernel", "step", "passed", "failed"
    );
    for (kernel, Report { name, tally }) in &reports {
        eprintln!(
            "{:<8}{name:<32}{:>8}{:>8}",
            kernel.name(),
            tally.passed,
            tally.failed
        );
    }
    Ok(reports
        .iter()
        .fold(Tally::default(), |sum, (_, report)| sum.add(report.tally)))
}

/// This tree with its programs.
pub(super) fn payload(programs: &Programs) -> anyhow::Result<Payload> {
    let mut payload = Payload::new()?;
    for program in programs.programs() {
        payload.add(program)?;
    }
    payload.add(&tree::kernel_object(Architecture::NATIVE))?;
    for step in STEPS.iter().filter(|step| step.kind != Kind::Program) {
        payload.add(programs.get(step.kind, step.program)?)?;
    }
    Ok(payload)
}

/// Each step between two lines that say where it begins and how it ended.
fn script(programs: &Programs, filters: &[String]) -> anyhow::Result<String> {
    let mut script = String::new();
    for step in &STEPS {
        let program = quoted(programs.get(step.kind, step.program)?);
        let folder = quoted(&tree::root().join(step.package));
        let words: Vec<_> = filters
            .iter()
            .map(|filter| quoted(Path::new(filter)))
            .collect();
        let arguments = if words.is_empty() || step.kind == Kind::Program {
            step.arguments.join(" ")
        } else {
            words.join(" ")
        };
        write!(
            script,
            "echo '{BEGIN}{name}'\n\
             cd {folder}\n\
             CARGO_MANIFEST_DIR={folder} timeout --kill-after=10 {seconds} {program} {arguments}\n\
             printf '\\n{END}%s\\n' $?\n",
            name = step.name,
            seconds = step.seconds,
        )?;
    }
    Ok(script)
}

const BEGIN: &str = "stockade-vm: step ";
const END: &str = "stockade-vm: step ended ";

/// As one word for the shell.
pub(crate) fn quoted(text: &Path) -> String {
    format!("'{}'", text.display().to_string().replace('\'', r"'\''"))
}

/// How a step went.
struct Report {
    name: &'static str,
    tally: Tally,
}

fn on(image: &Image, kernel: Kernel, payload: &Path, filtered: bool) -> Vec<(Kernel, Report)> {
    eprintln!("\n== kernel {}", kernel.name());
    let mut count = Count {
        filtered,
        ..Count::default()
    };
    let machine = Machine {
        image,
        kernel,
        payload,
        limit: MACHINE_LIMIT,
    };
    if let Err(error) = machine.run(|line| count.line(line)) {
        eprintln!("error: {error:#}");
    }
    count
        .finish()
        .into_iter()
        .map(|report| (kernel, report))
        .collect()
}

/// Reads a machine's output.
#[derive(Default)]
struct Count {
    /// Whether a step may turn out to have no tests.
    filtered: bool,
    reports: Vec<Report>,
    /// The step that runs.
    tally: Tally,
}

impl Count {
    fn line(&mut self, line: &str) {
        if let Some(code) = line.strip_prefix(END) {
            let Some(step) = STEPS.get(self.reports.len()) else {
                return;
            };
            let tally = step.judge(self.tally, code, self.filtered);
            self.reports.push(Report {
                name: step.name,
                tally,
            });
            self.tally = Tally::default();
        } else if let Some(tally) = phase::count(line) {
            self.tally = self.tally.add(tally);
        }
    }

    /// A step that did not come to its end has failed.
    fn finish(mut self) -> Vec<Report> {
        while self.reports.len() < STEPS.len() {
            self.line(&format!("{END}never"));
        }
        self.reports
    }
}

impl Step {
    /// What counts: a program by its exit code; tests by what they counted, and a crash as one more.
    fn judge(&self, counted: Tally, code: &str, filtered: bool) -> Tally {
        if self.kind == Kind::Program {
            return match code {
                "0" => Tally::PASSED,
                _ => Tally::FAILED,
            };
        }
        let complaint = match code {
            "never" => "did not come to its end".to_owned(),
            "0" if counted == Tally::default() && !filtered => "ran no test".to_owned(),
            "0" => return counted,
            _ if counted.failed > 0 => return counted,
            code => format!("ended with {code} without a failed test"),
        };
        eprintln!("error: step `{}` {complaint}", self.name);
        counted.add(Tally::FAILED)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Count, Tally, quoted};

    fn tallies(lines: &str) -> Vec<(u64, u64)> {
        let mut count = Count::default();
        lines.lines().for_each(|line| count.line(line));
        let pair = |Tally { passed, failed }| (passed, failed);
        count
            .finish()
            .into_iter()
            .map(|report| pair(report.tally))
            .collect()
    }

    #[test]
    fn each_step_has_its_own_count() {
        let lines = "stockade-vm: step doctor\nstockade-vm: step ended 0\n\
                     test result: FAILED. 3 passed; 1 failed; 0 ignored\n\
                     stockade-vm: step ended 101\n\
                     test result: ok. 7 passed; 0 failed; 0 ignored\n\
                     stockade-vm: step ended 0";
        assert_eq!(tallies(lines), [(1, 0), (3, 1), (7, 0)]);
    }

    #[test]
    fn a_machine_that_breaks_off_has_failed() {
        let lines = "stockade-vm: step ended 0\ntest result: ok. 3 passed; 0 failed; 0 ignored";
        assert_eq!(tallies(lines), [(1, 0), (3, 1), (0, 1)]);
    }

    #[test]
    fn a_crash_is_a_failure() {
        let lines = "stockade-vm: step ended 1\nstockade-vm: step ended 139";
        assert_eq!(tallies(lines), [(0, 1), (0, 1), (0, 1)]);
    }

    #[test]
    fn a_step_without_tests_is_a_failure() {
        let lines = "stockade-vm: step ended 0\n\
                     test result: ok. 0 passed; 0 failed; 0 ignored\nstockade-vm: step ended 0";
        assert_eq!(tallies(lines), [(1, 0), (0, 1), (0, 1)]);
    }

    #[test]
    fn a_word_for_the_shell_stays_one() {
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
