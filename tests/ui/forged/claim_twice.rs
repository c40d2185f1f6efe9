//! Two calls on one idempotency claim.

use agent::broker::idempotency::Claimed;

fn twice(claimed: Claimed) -> (Claimed, Claimed) {
    (claimed.clone(), claimed) //~ E0599
}

fn main() {
    let _ = twice;
}
