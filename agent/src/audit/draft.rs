//! A record before it has its place in the chain. What it says is put into its form before the end of the
//! journal is locked: under the lock a line only gets its number, the hash of the line before, and the time.

use std::ops::Range;

use serde::{Serialize, ser::Error as _};

use super::{
    chain::{Head, Step, hex},
    error::Error,
    record::Entry,
};
use crate::{json::canonical, timestamp::Timestamp};

/// What every line has besides what it says, in canonical order.
const KEYS: [&str; 3] = ["previous", "sequence", "time"];
/// What a call's record fits into, and what is added to one, bytes.
const ENTRY_BYTES: usize = 512;
const ADDED_BYTES: usize = 192;

/// What a record says, in canonical form.
#[derive(Debug)]
pub(super) struct Draft {
    form: Vec<u8>,
    /// Its members in order, and before which of them each of [`KEYS`] belongs.
    members: Vec<Range<usize>>,
    before: [usize; 3],
    step: Step,
}

impl Draft {
    pub(super) fn new<E: Serialize>(entry: &Entry<'_, E>) -> Result<Self, Error> {
        Self::of(entry, entry.step())
    }

    fn of(says: &impl Serialize, step: Step) -> Result<Self, Error> {
        let mut form = Vec::with_capacity(ENTRY_BYTES);
        let members = canonical::write_object(says, &mut form).map_err(Error::Encode)?;
        let mut before = [0; 3];
        for (key, before) in KEYS.iter().zip(&mut before) {
            let keys = members.iter().map(|member| own_key(&form, member));
            *before = keys.take_while(|own| *own < key.as_bytes()).count();
            let next = members.get(*before).map(|member| own_key(&form, member));
            if next == Some(key.as_bytes()) {
                return Err(Error::Encode(serde_json::Error::custom(format!(
                    "`{key}` is not for a record to say"
                ))));
            }
        }
        Ok(Self {
            form,
            members,
            before,
            step,
        })
    }

    /// What it begins or ends.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// The line that follows `head`, with its end.
    pub(super) fn line(&self, head: Head) -> Vec<u8> {
        let (previous, sequence) = (hex(&head.hash), head.next());
        let now = Timestamp::now();
        let own = [
            format!("\"previous\":\"{previous}\""),
            format!("\"sequence\":{sequence}"),
            format!("\"time\":\"{now}\""),
        ];
        let mut line = Vec::with_capacity(self.form.len() + ADDED_BYTES);
        line.push(b'{');
        let mut put = |member: &[u8]| {
            line.extend_from_slice(member);
            line.push(b',');
        };
        for number in 0..=self.members.len() {
            for (own, before) in own.iter().zip(self.before) {
                if before == number {
                    put(own.as_bytes());
                }
            }
            if let Some(member) = self.members.get(number) {
                put(self.form.get(member.clone()).unwrap_or_default());
            }
        }
        // Instead of the last comma.
        line.pop();
        line.extend_from_slice(b"}\n");
        line
    }
}

/// The key of a member, without its quotes. None of ours has a character that is escaped.
fn own_key<'a>(form: &'a [u8], member: &Range<usize>) -> &'a [u8] {
    let member = form.get(member.clone()).unwrap_or_default();
    let key = member.strip_prefix(b"\"").unwrap_or_default();
    key.split(|byte| *byte == b'"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::audit::record::Plain;

    fn line_of(entry: &Plain<'_>) -> (String, Value) {
        let head = Head {
            sequence: 41,
            hash: [0xa5; 32],
        };
        let line = Draft::new(entry).expect("it has a form").line(head);
        let line = String::from_utf8(line).expect("text");
        let line = line.strip_suffix('\n').expect("a line").to_owned();
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["sequence"], 42);
        assert_eq!(read["previous"], "a5".repeat(32));
        assert!(read["time"].as_str().expect("text").ends_with('Z'));
        (line, read)
    }

    #[test]
    fn a_line_is_in_canonical_form_whatever_it_says() {
        let refused = [json!({"time": 1, "previous": {"sequence": "\",\"time\":"}})];
        let all = [
            Plain::Opened {
                version: "1",
                pid: 7,
            },
            Plain::Torn {
                bytes: 1,
                sha256: "ab",
            },
            Plain::OutcomeUnknown { begun: 3 },
            Plain::Segment {
                checkpoint: "a\n\"b\"\n",
                open: &[1, 2],
            },
            Plain::PoliciesKept {
                before: None,
                why: "\u{fb33} and \u{10000}",
            },
            Plain::Detached {
                session: 5,
                why: "gone",
                refused: &refused,
            },
        ];
        for entry in &all {
            let (line, read) = line_of(entry);
            let expected = serde_json_canonicalizer::to_string(&read).expect("it has a form");
            assert_eq!(line, expected);
            let says = serde_json::to_value(entry).expect("JSON");
            for (key, value) in says.as_object().expect("an object") {
                assert_eq!(&read[key], value, "{key}");
            }
            let count = says.as_object().expect("an object").len() + KEYS.len();
            assert_eq!(read.as_object().expect("an object").len(), count);
        }
    }

    #[test]
    fn what_links_a_line_is_not_for_a_record_to_say() {
        #[derive(Serialize)]
        struct Odd {
            sequence: u64,
        }
        let refused = Draft::of(&Odd { sequence: 1 }, Step::Tells);
        assert!(refused.is_err(), "{refused:?}");
        let further_down = json!({"a": Odd { sequence: 1 }});
        assert!(Draft::of(&further_down, Step::Tells).is_ok());
    }
}
