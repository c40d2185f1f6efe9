//! One proof for two calls.

use agent::broker::proof::{Checked, Proofs};

fn twice(proofs: &Proofs, checked: Checked) {
    let _first = proofs.spend(checked);
    let _second = proofs.spend(checked); //~ E0382
}

fn again(checked: Checked) -> (Checked, Checked) {
    (checked.clone(), checked) //~ E0599
}

fn main() {
    let _ = (twice, again);
}
