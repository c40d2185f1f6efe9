//! The heap of the C library.

/// Gives the kernel back what is free in the middle of the heap (`malloc_trim(3)`), some
/// milliseconds. The library itself gives back only what is free at its end: after a start or a change
/// of policies, whose big and short-lived tables lie below small ones that stay, it would keep most.
///
/// Does nothing with a C library that has no such call.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer, locks the heap itself and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
