//! One recorded call that would run twice.

use agent::broker::call::Recorded;

fn twice(recorded: Recorded) -> (Recorded, Recorded) {
    (recorded.clone(), recorded) //~ E0599
}

fn main() {}
