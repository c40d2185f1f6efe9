//! A file is named for what it holds; a drawer for odds and ends fills up.

use super::Finding;

const DRAWERS: [&str; 9] = [
    "util", "utils", "helper", "helpers", "common", "misc", "types", "manager", "managers",
];

pub(crate) fn check(path: &str) -> Vec<Finding> {
    // The crate `common` holds the contract with the kernel side, and nothing else.
    let inner = path.strip_prefix("common/").unwrap_or(path);
    inner
        .split('/')
        .map(|name| name.split_once('.').map_or(name, |(stem, _)| stem))
        .filter(|stem| DRAWERS.contains(stem))
        .map(|stem| Finding {
            path: path.to_owned(),
            line: 0,
            text: format!("`{stem}` names nothing: name the noun"),
        })
        .collect()
}
