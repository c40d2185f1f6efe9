//! A call that goes on without what comes before: each check is the broker's own to make.

use agent::broker::call::{Admitted, Approved, Assessed, Recorded};

fn assessed(admitted: Admitted) -> Assessed {
    Assessed::assess(admitted) //~ E0624
}

fn approved(assessed: Assessed) -> Approved {
    let Ok(approved) = Approved::decide(assessed) else { //~ E0624
        unreachable!()
    };
    approved
}

fn held(recorded: Recorded) {
    recorded.into_parts(); //~ E0624
}

fn main() {}
