//! How long a wait may last. An emulated processor is many times slower than the one that the times
//! were chosen on: whoever runs the tests there says by how much.

use std::time::Duration;

/// The factor by which this machine is slower, as a whole number.
pub const VARIABLE: &str = "STOCKADE_SLOW";

/// Larger factors are held for mistakes.
const FACTOR_MAX: u32 = 100;

/// The factor; 1 where nobody said one.
///
/// # Panics
///
/// On a factor that is none.
pub fn factor() -> u32 {
    let Ok(text) = std::env::var(VARIABLE) else {
        return 1;
    };
    match text.parse() {
        Ok(factor @ 1..=FACTOR_MAX) => factor,
        _ => panic!("{VARIABLE}={text} is no whole number from 1 to {FACTOR_MAX}"),
    }
}

/// What was chosen on an ordinary machine, on this one.
pub fn scaled(time: Duration) -> Duration {
    time.saturating_mul(factor())
}
