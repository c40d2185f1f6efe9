//! Two sessions on one journal record.

use agent::audit::Receipt;

fn twice(receipt: Receipt) -> (Receipt, Receipt) {
    (receipt.clone(), receipt) //~ E0599
}

fn main() {
    let _ = twice;
}
