//! Policies that were never published.

use agent::kernel::sync::Synced;

fn main() {
    let _forged = Synced {}; //~ cannot construct `Synced` with struct literal syntax due to private fields
}
