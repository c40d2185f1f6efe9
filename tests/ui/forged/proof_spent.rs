//! A proof that nobody spent.

use agent::broker::proof::Spent;

fn main() {
    let _forged = Spent { _only_from_spend: () }; //~ E0451
}
