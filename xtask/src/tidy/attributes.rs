//! Lints are expected with a reason, never allowed; tests are never ignored.

use super::{Finding, source::Source};

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    source
        .words()
        .filter_map(|(at, word)| Some(source.finding(at, complaint(source, at, word)?)))
        .collect()
}

fn complaint(source: &Source, at: usize, word: &str) -> Option<&'static str> {
    // `#[word`, `#![word` or a word within `cfg_attr(…)`.
    let before = source.before(at);
    let opened = before.rfind("#[").max(before.rfind("#!["))?;
    if source.before(at).get(opened..)?.contains(']') {
        return None;
    }
    let after = source.after(at + word.len());
    match word {
        "ignore" => Some("an ignored test shows nothing: let it fail with the reason"),
        "allow" if after.starts_with('(') => Some("`allow`: say `expect` with a reason"),
        "expect" if after.starts_with('(') && !has_reason(after) => {
            Some("`expect` without a reason")
        }
        _ => None,
    }
}

/// Whether the parentheses that open here hold `reason =`.
fn has_reason(text: &str) -> bool {
    let mut depth = 0_usize;
    let end = text.char_indices().find_map(|(at, letter)| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0).then_some(at)
    });
    text.get(..end.unwrap_or(text.len()))
        .is_some_and(|inner| inner.contains("reason ="))
}
