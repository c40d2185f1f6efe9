//! What the `landlock` crate does not tell: the kernel's ABI number.

use std::{io, ptr};

use super::process::done;

/// `LANDLOCK_CREATE_RULESET_VERSION`
const ASK_VERSION: u32 = 1;

/// The ABI that this kernel offers.
pub fn abi() -> io::Result<i32> {
    // SAFETY: with this flag the kernel takes no attributes: null and zero (landlock(7)).
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0_usize,
            ASK_VERSION,
        )
    };
    done(version)?;
    i32::try_from(version).map_err(io::Error::other)
}
