//! Does nothing but say when it was started: how long a launch has taken. `cargo xtask bench` links
//! it statically.

use std::{
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() -> std::io::Result<()> {
    // The clock that all processes of a host share, of those that the standard library reads.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    writeln!(std::io::stdout(), "{}", now.unwrap_or_default().as_nanos())
}
