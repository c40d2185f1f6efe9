//! `membarrier(2)`: waits for an RCU grace period of the kernel.

use std::io;

/// Returns when every processor has passed through a state in which it runs no kernel program
/// (`MEMBARRIER_CMD_GLOBAL`: the kernel calls `synchronize_rcu`).
pub fn global() -> io::Result<()> {
    const GLOBAL: i64 = 1;
    // SAFETY: the system call takes integers only and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0_u64, 0_u64) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
