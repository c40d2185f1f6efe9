//! Two outcomes of one recorded call.

use agent::audit::CallReceipt;

fn twice(receipt: CallReceipt) -> (CallReceipt, CallReceipt) {
    (receipt.clone(), receipt) //~ E0599
}

fn main() {
    let _ = twice;
}
