//! Words that no finished file has, in comments and prose too.

use super::{Finding, source::words};

/// Marks of unfinished work. Taken apart here, so that this file passes its own rule.
const UNFINISHED: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("unimpl", "emented"),
];

/// Paths of somebody's machine.
const PLACES: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/.c"),
    concat!("/tmp/", "boot"),
    concat!("/ho", "me/user"),
    concat!("/Us", "ers/"),
];

pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut add = |text: String| {
            findings.push(Finding {
                path: path.to_owned(),
                line: number + 1,
                text,
            });
        };
        for (_, word) in words(line).filter(|(_, word)| UNFINISHED.contains(word)) {
            add(format!(
                "`{word}`: finish it, or leave it out and say so in the docs"
            ));
        }
        for place in PLACES.iter().filter(|place| line.contains(**place)) {
            add(format!("`{place}` is a path of one machine"));
        }
    }
    findings
}
