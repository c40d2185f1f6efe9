//! `stockade doctor --probe` on the kernel that runs the tests, and the record of all rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use lab::binary::Scratch;
use serde_json::Value;

use crate::rows::{self, record};

/// Fewer rows mean that the probe broke off.
const ROWS_MIN: usize = 30;

#[test]
fn the_probe_finds_no_way_out() {
    // A worker's /tmp is its own, and the binary may have been built below the host's.
    let scratch = Scratch::new().expect("a folder");
    let stockade = scratch.install("stockade").expect("the binary is built");
    let mut command = Command::new(stockade);
    let output = command
        .args(["doctor", "--probe", "--json"])
        .output()
        .expect("it starts");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(output.status.success(), "{rows:#?}");
    assert!(rows.len() >= ROWS_MIN, "{rows:#?}");
    let text = |row: &Value, key: &str| row[key].as_str().expect("a word").to_owned();
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        *verdicts.entry(text(row, "verdict")).or_default() += 1;
        let came = match row["verdict"].as_str() {
            Some("allowed") => "works".to_owned(),
            _ => text(row, "came_back"),
        };
        record::note("probe", &text(row, "tried"), &came);
    }
    // The control: one attempt is what the policy allows, and it is seen to arrive.
    let wanted = [
        ("allowed".to_owned(), 1),
        ("refused".to_owned(), rows.len() - 1),
    ];
    assert_eq!(verdicts, BTreeMap::from(wanted), "{rows:#?}");
    let tried = rows.iter().map(|row| text(row, "tried")).collect();
    check_record("probe", &tried);
}

#[test]
fn every_row_is_on_record_for_every_kernel() {
    let rows: BTreeSet<String> = rows::all().map(|row| row.name.to_owned()).collect();
    assert_eq!(rows.len(), rows::all().count(), "a name stands twice");
    for under in ["nothing", "hooks", "fence"] {
        check_record(under, &rows);
    }
}

/// The rows of `docs/hooks` are those of today, for each kernel.
fn check_record(under: &str, rows: &BTreeSet<String>) {
    if record::is_on() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hooks");
    let mut kernels = 0;
    for entry in fs::read_dir(folder).expect("the record is there") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("the record is text");
        let lines = text.lines().map(|line| {
            let value: Value = serde_json::from_str(line).expect("a line of JSON");
            value
        });
        let recorded: BTreeSet<String> = lines
            .filter(|line| line["under"] == under)
            .filter_map(|line| line["row"].as_str().map(str::to_owned))
            .collect();
        let differing: Vec<_> = recorded.symmetric_difference(rows).collect();
        assert!(
            differing.is_empty(),
            "{} under {under}: {differing:?}; hint: `cargo xtask hooks`",
            path.display()
        );
        kernels += 1;
    }
    assert!(
        kernels > 0,
        "no kernel is on record; hint: `cargo xtask hooks`"
    );
}
