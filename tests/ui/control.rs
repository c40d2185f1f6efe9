//! The control: what the forgeries use is there and public, so they fail for the reason they should.

use agent::{
    audit::Receipt,
    broker::{
        proof::{Checked, Proofs, Spent},
        reason::Refused,
    },
};

fn sequence(receipt: &Receipt) -> u64 {
    receipt.sequence()
}

fn spend(proofs: &Proofs, checked: Checked) -> Result<Spent, Refused> {
    proofs.spend(checked)
}

fn main() {
    let _ = (sequence, spend);
}
