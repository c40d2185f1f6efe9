//! `docs/hooks.md` from the records in `docs/hooks`: one column a kernel. Knows the shape of a record
//! and of the page; not how a row is tried.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::tree;

/// Major and minor version name a kernel.
const VERSION_PARTS: usize = 2;

/// The groups of a record, in its order.
const GROUPS: [&str; 4] = ["nothing", "hooks", "fence", "probe"];

const HEAD: &str = "# What the fence refuses, kernel by kernel\n\n\
<!-- Generated from docs/hooks by `cargo xtask generate`; recorded by `cargo xtask hooks`. -->\n\n\
The integration tests try every row on each of these kernels and write down what came back: an \
error is what the program gets, and nothing of that row was seen to arrive on the far side.\n\n";

const ROWS: &str = "\n## Every row of the tests\n\n\
The same script runs three times. Without a fence it must work and be seen to arrive: that is the \
control, and `absent` says that this kernel lacks what the row is about. Then it runs under the \
kernel hooks alone, as root and without seccomp or Landlock (first word), and inside the whole \
fence (second). `nothing arrives`: calls succeed, no packet gets out. `no hook`: no hook of the \
kernel sees such a socket; the second word is the layer that answers for it. `works`: the policy \
of the rows allows it, or nothing of it could leave.\n\n";

const PROBE: &str = "## `stockade doctor --probe`\n\n\
The same on your host, in a throw-away fence. The policy of the probe allows the first row and \
nothing else. `EAGAIN` in the last row: the listener waited, and nobody came in.\n\n";

/// Where the records lie.
pub(crate) fn folder() -> PathBuf {
    tree::root().join("docs/hooks")
}

/// The release that the first line of a record names.
pub(crate) fn release(line: &str) -> anyhow::Result<String> {
    let head: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let release = head.get("release").and_then(Value::as_str);
    Ok(release.context("a record names no release")?.to_owned())
}

/// The name of a kernel, by its release.
pub(crate) fn version(release: &str) -> String {
    let parts: Vec<_> = release.split(['.', '-', '+']).take(VERSION_PARTS).collect();
    parts.join(".")
}

/// Where in the record a line belongs.
pub(crate) fn group(line: &str) -> usize {
    let place = |row: &Row| GROUPS.iter().position(|group| *group == row.under);
    let row = Row::read(line).ok();
    row.as_ref().and_then(place).unwrap_or(GROUPS.len())
}

struct Row {
    under: String,
    name: String,
    came: String,
}

impl Row {
    fn read(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let word = |key: &str| {
            let word = value.get(key).and_then(Value::as_str);
            word.map(str::to_owned)
                .with_context(|| format!("no `{key}` in {line}"))
        };
        Ok(Self {
            under: word("under")?,
            name: word("row")?,
            came: word("came")?,
        })
    }
}

/// What was seen on one kernel.
struct Record {
    release: String,
    rows: Vec<Row>,
}

impl Record {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let release = release(lines.next().context("a record is empty")?)?;
        let rows = lines.map(Row::read).collect::<anyhow::Result<_>>()?;
        Ok(Self { release, rows })
    }

    /// For the order of columns.
    fn order(&self) -> Vec<u32> {
        let version = version(&self.release);
        version
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect()
    }

    fn came(&self, under: &str, name: &str) -> &str {
        let row = self
            .rows
            .iter()
            .find(|row| row.under == under && row.name == name);
        row.map_or("not tried", |row| &row.came)
    }

    /// The cell of a row of the tests.
    fn cell(&self, name: &str) -> String {
        match self.came("nothing", name) {
            "works" => format!(
                "{} / {}",
                self.came("hooks", name),
                self.came("fence", name)
            ),
            other => other.to_owned(),
        }
    }
}

/// The page.
pub(crate) fn page() -> anyhow::Result<String> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder()).context("docs/hooks; hint: `cargo xtask hooks`")? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        records.push(Record::read(&text).with_context(|| path.display().to_string())?);
    }
    render(records)
}

fn render(mut records: Vec<Record>) -> anyhow::Result<String> {
    records.sort_by_key(Record::order);
    ensure!(!records.is_empty(), "no kernel is on record");
    let mut page = HEAD.to_owned();
    let releases: Vec<_> = records
        .iter()
        .map(|record| record.release.as_str())
        .collect();
    writeln!(page, "Recorded on {}.\n", releases.join(", "))?;
    page.push_str(PROBE);
    table(&mut page, &records, "probe", |record, name| {
        record.came("probe", name).to_owned()
    })?;
    page.push_str(ROWS);
    table(&mut page, &records, "nothing", Record::cell)?;
    Ok(page)
}

/// A column a kernel; the rows are those of the newest.
fn table(
    page: &mut String,
    records: &[Record],
    under: &str,
    cell: impl Fn(&Record, &str) -> String,
) -> anyhow::Result<()> {
    let kernels: Vec<_> = records
        .iter()
        .map(|record| version(&record.release))
        .collect();
    writeln!(page, "| tried | {} |", kernels.join(" | "))?;
    writeln!(page, "|---|{}", "---|".repeat(kernels.len()))?;
    let newest = records.last().context("no kernel is on record")?;
    for row in newest.rows.iter().filter(|row| row.under == under) {
        let cells: Vec<_> = records
            .iter()
            .map(|record| cell(record, &row.name))
            .collect();
        writeln!(page, "| {} | {} |", row.name, cells.join(" | "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Record, group, render};

    const OLD: &str = r#"{"release":"6.1.0-9-x"}
{"under":"nothing","row":"dccp","came":"works"}
{"under":"hooks","row":"dccp","came":"EACCES"}
{"under":"fence","row":"dccp","came":"EPERM"}
{"under":"probe","row":"TCP","came":"works"}
"#;
    const NEW: &str = r#"{"release":"6.12.3"}
{"under":"nothing","row":"dccp","came":"absent"}
{"under":"hooks","row":"dccp","came":"EACCES"}
{"under":"fence","row":"dccp","came":"EPERM"}
{"under":"nothing","row":"new","came":"works"}
"#;

    #[test]
    fn kernels_stand_in_their_order_and_gaps_are_said() {
        let records = [NEW, OLD].map(|text| Record::read(text).expect("a record"));
        let page = render(records.into()).expect("a page");
        let tail: Vec<_> = page.lines().rev().take(4).collect();
        assert_eq!(
            tail,
            [
                "| new | not tried | not tried / not tried |",
                "| dccp | EACCES / EPERM | absent |",
                "|---|---|---|",
                "| tried | 6.1 | 6.12 |",
            ]
        );
    }

    #[test]
    fn lines_of_one_test_stand_together() {
        let groups: Vec<_> = OLD.lines().map(group).collect();
        assert_eq!(groups, [4, 0, 1, 2, 3]);
    }

    #[test]
    fn a_record_without_a_head_is_refused() {
        let rows = OLD.split_once('\n').expect("two lines").1;
        assert!(Record::read(rows).is_err());
        assert!(Record::read("").is_err());
    }
}
