//! `hooks`: records what becomes of every row of the hook table, on this host's kernel and on those
//! of emulated machines. Knows which tests tell it and where it is kept; `hook_table` makes the page.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;

use crate::{
    generate, hook_table, privileges,
    process::{self, Ended},
    setup::{self, Scope},
    tree,
    vm::{self, Kernel, Kind, Programs, quoted},
};

/// Whose kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Where {
    /// This host's.
    #[value(name = "host")]
    Host,
    /// Debian 12's own.
    #[value(name = "6.1")]
    Linux6_1,
    /// The newest that Debian 12 offers.
    #[value(name = "6.12")]
    Linux6_12,
}

impl Where {
    const ALL: [Self; 3] = [Self::Host, Self::Linux6_1, Self::Linux6_12];

    const fn machine(self) -> Option<Kernel> {
        match self {
            Self::Host => None,
            Self::Linux6_1 => Some(Kernel::Linux6_1),
            Self::Linux6_12 => Some(Kernel::Linux6_12),
        }
    }
}

/// The tests that do every row and write down what came of it.
const TESTS: [&str; 4] = [
    "control::every_row_works_without_a_fence",
    "hooks::every_row_is_as_the_table_says",
    "bypass::every_row_is_as_the_table_says",
    "probe::the_probe_finds_no_way_out",
];

/// Starts each line of the record in what the script prints.
const MARK: &str = "stockade-row: ";

/// How long the rows may take on this host.
const HOST_LIMIT: Duration = Duration::from_mins(10);

/// The verb.
pub(crate) fn run(only: Option<Where>) -> anyhow::Result<()> {
    privileges::demand()?;
    setup::ensure(Scope::Lab)?;
    let programs = Programs::build()?;
    let script = script(&programs)?;
    for place in only.map_or_else(|| Where::ALL.to_vec(), |place| vec![place]) {
        let mut record = Vec::new();
        let keep = |line: &str| record.extend(line.strip_prefix(MARK).map(str::to_owned));
        match place.machine() {
            None => on_host(&script, keep)?,
            Some(kernel) => vm::script(kernel, &programs, &script, keep)?,
        }
        keep_record(record)?;
    }
    generate::write()
}

fn on_host(script: &str, line: impl FnMut(&str)) -> anyhow::Result<()> {
    let mut command = Command::new("sh");
    match process::watch(command.args(["-c", script]), HOST_LIMIT, line)? {
        Ended::Status(status) if status.success() => Ok(()),
        Ended::Status(status) => bail!("a row is not as it must be ({status})"),
        Ended::TooLong(limit) => bail!("the rows took longer than {} s", limit.as_secs()),
    }
}

/// Runs the tests, then prints the record.
fn script(programs: &Programs) -> anyhow::Result<String> {
    let program = quoted(programs.get(Kind::IntegrationTests, "it")?);
    let folder = quoted(&tree::root().join("tests"));
    let tests = TESTS.join(" ");
    Ok(format!(
        "cd {folder} || exit 1\n\
         STOCKADE_ROWS=$(mktemp) || exit 1\n\
         export STOCKADE_ROWS\n\
         CARGO_MANIFEST_DIR={folder} {program} --exact {tests}\n\
         code=$?\n\
         echo '{MARK}{{\"release\":\"'\"$(uname -r)\"'\"}}'\n\
         sed 's/^/{MARK}/' \"$STOCKADE_ROWS\"\n\
         rm -f \"$STOCKADE_ROWS\"\n\
         exit $code\n"
    ))
}

/// Writes the record of one kernel: its release, then the rows, those of one test together.
fn keep_record(mut lines: Vec<String>) -> anyhow::Result<()> {
    ensure!(lines.len() > TESTS.len(), "the tests recorded no row");
    let (first, rows) = lines.split_at_mut(1);
    let first = first.first().context("the record has no head")?;
    let release = hook_table::release(first)?;
    // Tests run side by side: their lines are mixed, each test's own order is the table's.
    rows.sort_by_key(|line| hook_table::group(line));
    let version = hook_table::version(&release);
    let file = hook_table::folder().join(format!("{version}.jsonl"));
    fs::create_dir_all(hook_table::folder())?;
    fs::write(&file, lines.join("\n") + "\n")
        .with_context(|| format!("{} can not be written", file.display()))?;
    eprintln!("hooks: {} rows of {release}", lines.len() - 1);
    Ok(())
}
