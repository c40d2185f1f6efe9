//! Hooks that are on no cgroup.

use agent::kernel::Attached;

fn main() {
    let _forged = Attached {}; //~ cannot construct `agent::kernel::Attached` with struct literal syntax due to private fields
}
