//! `audit query`: what began, joined with what came of it. It reads; whether the journal is whole is
//! `verify`'s question.

use std::{
    collections::BTreeMap,
    io::{self, BufReader},
    path::Path,
};

use serde_json::Value;

use super::{error::Error, place::Place, verify::files, walk::Lines};

/// Kinds of records that stand for something that began and will end.
const BEGINNINGS: [&str; 3] = ["call", "intent", "self_test"];

/// What is asked for; what is absent is not asked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The user (`sub` of the token).
    pub subject: Option<String>,
    /// The program that acts for the user.
    pub client: Option<String>,
    /// The tool.
    pub tool: Option<String>,
    /// The verb.
    pub verb: Option<String>,
    /// The token's id.
    pub token: Option<String>,
    /// What came of it: `done`, a reason's code or word, `exit`, `running`, `issued`, …
    pub outcome: Option<String>,
    /// Not before: a beginning of `2026-11-22T13:00:00.000000Z`.
    pub since: Option<String>,
    /// Before.
    pub until: Option<String>,
}

/// Something that began, was refused, or was done at once.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// Its first record.
    pub begun: Value,
    /// Its last, where there is one.
    pub ended: Option<Value>,
    /// What came of it.
    pub outcome: String,
}

/// Hands everything that fits to `each`, in the order in which it ended; what runs comes last.
/// Lines that are no records are passed over.
pub fn query(
    path: &Path,
    filter: &Filter,
    mut each: impl FnMut(Found) -> io::Result<()>,
) -> Result<io::Result<()>, Error> {
    let place = Place::new(path)?;
    let mut running = BTreeMap::new();
    for opened in files(&place)? {
        let (path, file, _) = opened?;
        let mut lines = Lines::new(BufReader::new(file));
        let next = |lines: &mut Lines<_>| {
            lines.next().map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })
        };
        while let Some(line) = next(&mut lines)? {
            let Ok(record) = serde_json::from_slice::<Value>(&line.bytes) else {
                continue;
            };
            let found = join(&mut running, filter, record);
            if let Some(found) = found.filter(|found| filter.fits(found))
                && let Err(error) = each(found)
            {
                return Ok(Err(error));
            }
        }
    }
    for begun in running.into_values() {
        let found = Found {
            begun,
            ended: None,
            outcome: "running".to_owned(),
        };
        if filter.fits(&found)
            && let Err(error) = each(found)
        {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Takes a record: keeps a beginning, gives what is complete.
fn join(running: &mut BTreeMap<u64, Value>, filter: &Filter, record: Value) -> Option<Found> {
    let kind = text(&record, "/record")?;
    let alone = match kind {
        "refused" => Some(text(&record, "/code").unwrap_or_default()),
        "attach_refused" => Some(text(&record, "/reason").unwrap_or_default()),
        "token_issued" => Some("issued"),
        "token_key_rotated" => Some("rotated"),
        "tokens_revoked" => Some("revoked"),
        _ => None,
    };
    if let Some(outcome) = alone {
        let outcome = outcome.to_owned();
        return Some(Found {
            begun: record,
            ended: None,
            outcome,
        });
    }
    if BEGINNINGS.contains(&kind) {
        // What does not fit is not kept until it ends.
        if filter.fits_beginning(&record) {
            let sequence = record.get("sequence")?.as_u64()?;
            running.insert(sequence, record);
        }
        return None;
    }
    let begun = match kind {
        "called" => record.get("call"),
        "outcome" | "self_tested" => record.get("session"),
        "outcome_unknown" => record.get("begun"),
        _ => None,
    };
    let begun = running.remove(&begun?.as_u64()?)?;
    Some(Found {
        outcome: outcome(kind, &record),
        begun,
        ended: Some(record),
    })
}

/// One word for what came of it.
fn outcome(kind: &str, record: &Value) -> String {
    let word = match kind {
        "called" => text(record, "/code"),
        "outcome" => match record.get("end") {
            Some(Value::String(end)) => Some(end.as_str()),
            Some(Value::Object(end)) => end.keys().next().map(String::as_str),
            _ => None,
        },
        "self_tested" => match record.get("slipped") {
            Some(Value::Array(slipped)) if slipped.is_empty() => Some("passed"),
            Some(_) => Some("slipped"),
            None => Some("failed"),
        },
        _ => Some(kind),
    };
    word.unwrap_or("unknown").to_owned()
}

impl Filter {
    fn fits(&self, found: &Found) -> bool {
        let outcome = self.outcome.as_ref();
        outcome.is_none_or(|outcome| *outcome == found.outcome) && self.fits_beginning(&found.begun)
    }

    fn fits_beginning(&self, begun: &Value) -> bool {
        let equal = |wanted: Option<&String>, pointer| {
            wanted.is_none_or(|wanted| text(begun, pointer) == Some(wanted.as_str()))
        };
        // Both are of one form, so that earlier times are smaller texts.
        let time = text(begun, "/time").unwrap_or_default();
        equal(self.subject.as_ref(), "/principal/subject")
            && equal(self.client.as_ref(), "/principal/client")
            && equal(self.tool.as_ref(), "/tool")
            && equal(self.verb.as_ref(), "/verb")
            && equal(self.token.as_ref(), "/token/id")
            && self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}
