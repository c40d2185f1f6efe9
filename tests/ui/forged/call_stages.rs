//! A stage of a call that no check has made.

use agent::broker::call::{
    Admitted, Approved, Assessed, Authenticated, Finished, Received, Recorded, Released, Running,
    Validated,
};

fn authenticated(received: Received) -> Authenticated {
    Authenticated { received, ..unreachable!() } //~ E0451
}

fn validated(authenticated: Authenticated) -> Validated {
    Validated { authenticated, ..unreachable!() } //~ E0451
}

fn admitted(validated: Validated) -> Admitted {
    Admitted { validated, ..unreachable!() } //~ E0451
}

fn assessed(admitted: Admitted) -> Assessed {
    Assessed { admitted, ..unreachable!() } //~ E0451
}

fn approved(admitted: Admitted) -> Approved {
    Approved { admitted } //~ E0451
}

fn recorded(approved: Approved) -> Recorded {
    Recorded { approved, ..unreachable!() } //~ E0451
}

fn running(recorded: Recorded) -> Running {
    Running { recorded, ..unreachable!() } //~ E0451
}

fn finished(recorded: Recorded) -> Finished {
    Finished { recorded, ..unreachable!() } //~ E0451
}

fn released() -> Released {
    Released { done: unreachable!() } //~ E0451
}

fn main() {}
