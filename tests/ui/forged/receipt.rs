//! A receipt without a journal record.

use agent::audit::Receipt;

fn main() {
    let _forged = Receipt { sequence: 1 }; //~ E0451
}
