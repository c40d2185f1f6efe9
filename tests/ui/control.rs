//! The control: what the forgeries use is there and public, so they fail for the reason they should.

use agent::audit::Receipt;

fn sequence(receipt: &Receipt) -> u64 {
    receipt.sequence()
}

fn main() {
    let _ = sequence;
}
