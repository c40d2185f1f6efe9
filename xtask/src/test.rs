//! Every check and test there is: a fixed list of phases, each with its seconds.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{
    build, deny, generate, lint,
    phase::{Limit, Phase, Report, Tally, Work},
    privileges, process,
    setup::{self, Scope},
    tidy, vm,
};

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

const fn check(name: &'static str, work: fn() -> anyhow::Result<()>) -> Phase {
    Phase {
        name,
        wants_build: false,
        work: Work::Check(work),
    }
}

const fn built(name: &'static str, work: fn() -> anyhow::Result<()>) -> Phase {
    Phase {
        name,
        wants_build: true,
        work: Work::Check(work),
    }
}

const fn tests(name: &'static str, arguments: &'static [&'static str], limit: Limit) -> Phase {
    Phase {
        name,
        wants_build: true,
        work: Work::Tests { arguments, limit },
    }
}

/// Whose counts are the same in a long run.
const fn within(limit: Duration) -> Limit {
    Limit {
        ordinary: limit,
        long: limit,
    }
}

/// Fifty times the inputs.
const FUZZ: Limit = Limit {
    ordinary: minutes(10),
    long: Duration::from_hours(4),
};

/// A long run has a soak of two hours where an ordinary one has five minutes, and of all else that is
/// counted up to thirty times as much.
const INTEGRATION: Limit = Limit {
    ordinary: minutes(40),
    long: Duration::from_hours(12),
};

/// Without these no other phase means anything.
const FOUNDATION: [Phase; 2] = [
    check("setup", || setup::ensure(Scope::All)),
    check("build", || {
        build::kernel_object()?;
        build::workspace(false)?;
        build_tests()
    }),
];

const PHASES: [Phase; 14] = [
    check("privileges", privileges::demand),
    check("format", lint::format),
    check("tidy", tidy::run),
    check("deny", deny::check),
    built("clippy of the kernel object", lint::clippy_kernel),
    built("clippy", lint::clippy),
    built("documentation", lint::documentation),
    built("generated files", generate::check),
    tests("unit", &["--lib", "--bins"], within(minutes(10))),
    tests(
        "examples in the documentation",
        &["--doc"],
        within(minutes(10)),
    ),
    tests("must not compile", &["--test", "ui"], within(minutes(5))),
    tests("fuzz smoke", &["--test", "fuzz"], FUZZ),
    tests("integration", &["--test", "it"], INTEGRATION),
    Phase {
        name: "service in a machine",
        wants_build: true,
        work: Work::Counted(vm::core),
    },
];

/// The verb. `long` lets tests take larger counts.
pub(crate) fn run(long: bool) -> ExitCode {
    let start = Instant::now();
    let mut reports: Vec<Report> = Vec::new();
    let mut is_built = true;
    for phase in &FOUNDATION {
        let report = phase.run(long);
        is_built &= report.tally.failed == 0;
        reports.push(report);
        if !is_built {
            break;
        }
    }
    let (runnable, skipped): (Vec<_>, Vec<_>) = PHASES
        .iter()
        .partition(|phase| is_built || !phase.wants_build);
    reports.extend(runnable.into_iter().map(|phase| phase.run(long)));
    for report in reports.iter().filter(|report| !report.told.is_empty()) {
        eprintln!("\n== what failed in {}\n{}", report.name, report.told);
    }
    eprintln!(
        "\n{:<32}{:>8}{:>8}{:>10}",
        "phase", "passed", "failed", "seconds"
    );
    for Report {
        name,
        tally,
        seconds,
        ..
    } in &reports
    {
        eprintln!(
            "{name:<32}{:>8}{:>8}{seconds:>10.1}",
            tally.passed, tally.failed
        );
    }
    for phase in skipped {
        eprintln!(
            "{:<32}{:>8}{:>8}   not run: nothing is built",
            phase.name, "-", "-"
        );
    }
    let total = reports
        .iter()
        .fold(Tally::default(), |sum, report| sum.add(report.tally));
    eprintln!("{:<32}{:>26.1}", "all", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Compiles the tests too, so that the seconds of the phases are the tests' own.
fn build_tests() -> anyhow::Result<()> {
    let mut command = process::cargo();
    process::run(command.arg("test").args(build::WORKSPACE).arg("--no-run"))
}
