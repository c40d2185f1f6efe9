//! Two sessions on one admission.

use agent::kernel::Admitted;

fn twice(admitted: Admitted) -> (Admitted, Admitted) {
    (admitted.clone(), admitted) //~ E0599
}

fn main() {
    let _ = twice;
}
