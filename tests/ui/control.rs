//! The control: what the forgeries use is there and public, so they fail for the reason they should.

use agent::{
    audit::{CallReceipt, Receipt},
    broker::idempotency::Claimed,
};

fn sequence(receipt: &Receipt) -> u64 {
    receipt.sequence()
}

fn call(receipt: &CallReceipt) -> u64 {
    receipt.sequence()
}

fn keep(claimed: Claimed) -> Claimed {
    claimed
}

fn main() {
    let _ = (sequence, call, keep);
}
