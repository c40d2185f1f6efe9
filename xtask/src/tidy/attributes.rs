//! Lints are expected with a reason, never allowed; tests are never ignored.

use super::{
    Finding,
    source::{Source, words},
};

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (start, _) in source.code.match_indices('#') {
        let rest = source.after(start);
        if !(rest.starts_with("#[") || rest.starts_with("#![")) {
            continue;
        }
        let attribute = enclosed(rest, '[', ']');
        for (at, word) in words(attribute) {
            let after = attribute.get(at + word.len()..).unwrap_or_default();
            if let Some(text) = complaint(word, after) {
                findings.push(source.finding(start + at, text));
            }
        }
    }
    findings
}

fn complaint(word: &str, after: &str) -> Option<&'static str> {
    match word {
        "ignore" => Some("an ignored test shows nothing: let it fail with the reason"),
        "allow" if after.starts_with('(') => Some("`allow`: say `expect` with a reason"),
        "expect" if after.starts_with('(') && !enclosed(after, '(', ')').contains("reason =") => {
            Some("`expect` without a reason")
        }
        _ => None,
    }
}

/// The text up to the bracket that closes the first one.
fn enclosed(text: &str, open: char, close: char) -> &str {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        if letter == open {
            depth += 1;
        } else if letter == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return text.get(..at).unwrap_or(text);
            }
        }
    }
    text
}
