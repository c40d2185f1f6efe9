//! Each file opens with what it decides.

use super::{Finding, source::Source};

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    if first
        .strip_prefix("//!")
        .is_some_and(|purpose| !purpose.trim().is_empty())
    {
        return Vec::new();
    }
    vec![source.finding(0, "a file opens with `//!` and its purpose")]
}
