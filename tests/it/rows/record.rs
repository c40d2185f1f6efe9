//! What became of each row on this kernel, for `docs/hooks`: written down where `STOCKADE_ROWS` names
//! a file, one JSON object a line. Knows the words of that table; not how it is laid out.

use std::{fs::File, io::Write as _};

use lab::prober::Answer;
use serde_json::json;

use super::{Arrival, Outcome, Row};

/// Names the file. `cargo xtask hooks` sets it.
const VARIABLE: &str = "STOCKADE_ROWS";

/// Whether the table is being recorded: what is on record is then about to change.
pub(crate) fn is_on() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Adds a line: what came of a row, under what.
pub(crate) fn note(under: &str, row: &str, came: &str) {
    let Some(file) = std::env::var_os(VARIABLE) else {
        return;
    };
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(file)
        .expect("the record can be opened");
    let line = json!({ "under": under, "row": row, "came": came });
    // In one write: several tests record at the same time.
    file.write_all(format!("{line}\n").as_bytes())
        .expect("the record can be written");
}

/// In the words of the table. What depends on a race within the row is told by its outcome alone.
pub(super) fn told(row: &Row, wanted: Outcome, answer: &Answer, arrived: u64) -> String {
    let seen = !matches!(row.arrival, Arrival::Nowhere);
    match wanted {
        Outcome::Unseen => "no hook".to_owned(),
        Outcome::Silent if arrived == 0 => "nothing arrives".to_owned(),
        Outcome::MayLack if !answer.ok => "absent".to_owned(),
        Outcome::Works | Outcome::Refused(_) | Outcome::Silent | Outcome::MayLack => {
            match (answer.ok, arrived) {
                (false, 0) => answer.errno().to_owned(),
                (true, 0) if seen => "nothing arrives".to_owned(),
                _ => "works".to_owned(),
            }
        }
    }
}
