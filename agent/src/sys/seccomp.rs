//! Installing a filter.

use std::io;

use libc::{c_ulong, sock_filter, sock_fprog};

use super::process::done;

/// Adds a filter to those of this thread. Wants `no_new_privs`.
pub fn install(program: &mut [sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    let flags: c_ulong = 0;
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel checks and
    // copies them (seccomp(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    done(result)
}
