//! Session keyrings.

use std::{io, ptr};

use super::process::done;

/// `KEYCTL_JOIN_SESSION_KEYRING`
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Replaces the session keyring by a new, empty, anonymous one: the starter's keys are out of reach.
pub fn join_empty_session() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring (keyctl(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    };
    done(result)
}
