//! Loads that are begun anew, and those that are not.

use super::{LOADS_MAX, undisturbed};

/// Loads that are answered so, until one is answered otherwise or no more is tried.
fn loads(answer: impl Fn(u32) -> Result<(), i32>) -> (Result<(), i32>, u32) {
    let mut loads = 0;
    let outcome = undisturbed(
        || {
            loads += 1;
            answer(loads)
        },
        |errno| *errno == libc::EAGAIN,
    );
    (outcome, loads)
}

#[test]
fn a_signal_refuses_no_program() {
    let answer = |load| {
        if load < LOADS_MAX {
            Err(libc::EAGAIN)
        } else {
            Ok(())
        }
    };
    assert_eq!(loads(answer), (Ok(()), LOADS_MAX));
}

#[test]
fn the_verifier_is_believed_at_once_and_signals_without_end_are_told() {
    assert_eq!(loads(|_| Err(libc::EACCES)), (Err(libc::EACCES), 1));
    assert_eq!(loads(|_| Err(libc::EAGAIN)), (Err(libc::EAGAIN), LOADS_MAX));
}
