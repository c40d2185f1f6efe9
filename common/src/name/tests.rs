//! Keys of names: what they cover, and what has no place.

use super::{NAME_KEY_BYTES, NameKey, TLS_NAME_BYTES_MAX};
use crate::id::{Generation, PolicyId};

fn covers(key: &NameKey, other: &NameKey) -> bool {
    let bytes = usize::try_from((key.length - NameKey::SCOPE_BITS) / 8).unwrap_or(usize::MAX);
    key.length <= other.length && key.data.name.get(..bytes) == other.data.name.get(..bytes)
}

fn exact(name: &str) -> NameKey {
    NameKey::exact(PolicyId(1), Generation(2), name).expect("it has a place")
}

fn below(base: &str) -> NameKey {
    NameKey::below(PolicyId(1), Generation(2), base).expect("it has a place")
}

#[test]
fn a_name_covers_itself_alone() {
    assert!(covers(&exact("api.example"), &exact("api.example")));
    assert!(!covers(&exact("api.example"), &exact("x.api.example")));
    assert!(!covers(&exact("api.example"), &exact("xapi.example")));
}

#[test]
fn a_wildcard_covers_every_depth_and_not_the_apex() {
    assert!(covers(&below("cdn.example"), &exact("a.cdn.example")));
    assert!(covers(&below("cdn.example"), &exact("a.b.cdn.example")));
    assert!(!covers(&below("cdn.example"), &exact("cdn.example")));
    assert!(!covers(&below("cdn.example"), &exact("acdn.example")));
}

#[test]
fn names_end_with_the_room() {
    let longest = "a".repeat(TLS_NAME_BYTES_MAX);
    assert_eq!(
        exact(&longest).data.name.last().copied(),
        Some(0),
        "a NUL follows the longest name"
    );
    assert_eq!(longest.len() + 1, NAME_KEY_BYTES);
    assert!(NameKey::exact(PolicyId(1), Generation(1), &(longest.clone() + "a")).is_none());
    assert!(NameKey::below(PolicyId(1), Generation(1), &longest).is_none());
}
