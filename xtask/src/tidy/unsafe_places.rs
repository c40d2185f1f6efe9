//! `unsafe` stands only where the house keeps it, so that a reviewer knows what to read.

use super::{Finding, source::Source};

/// Folders (with a `/` at the end) and files: system calls; plain-old-data; what the kernel programs
/// read from their context and their maps; the program that plays the attacker in the tests.
const PLACES: &[&str] = &[
    "agent/src/sys/",
    "common/src/pod.rs",
    "ebpf/src/atomic.rs",
    "ebpf/src/ctx.rs",
    "ebpf/src/ctx/",
    "ebpf/src/maps.rs",
    "ebpf/src/maps/",
    "ebpf/src/state.rs",
    "tests/lab/sys/",
    "tests/prober/sys.rs",
    "tests/prober/uring.rs",
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    if PLACES.iter().any(|place| is_in(&source.path, place)) {
        return Vec::new();
    }
    source
        .words()
        .filter(|(_, word)| *word == "unsafe")
        // `#[unsafe(no_mangle)]` names a section of the object; it is no operation.
        .filter(|(at, _)| !source.before(*at).ends_with("#["))
        .map(|(at, _)| source.finding(at, "`unsafe` outside of its places: see xtask/src/tidy/unsafe_places.rs"))
        .collect()
}

fn is_in(path: &str, place: &str) -> bool {
    if place.ends_with('/') {
        path.starts_with(place)
    } else {
        path == place
    }
}
