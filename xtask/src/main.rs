//! The one entry.
fn main() {}
