//! Signal dispositions.

use std::io;

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};

use super::process::done;

/// The last signal number of the kernel.
const SIGNAL_MAX: libc::c_int = 64;
/// Bytes of the kernel's signal mask.
const MASK_BYTES: usize = 8;

/// `struct sigaction` as the kernel has it; zero is the default disposition.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Every signal to its default, none blocked: what a fresh program expects. An ignored signal would
/// stay ignored over an execution (the Rust runtime ignores `SIGPIPE`). The kernel is asked, not
/// libc, which does not let its own two real-time signals be touched.
pub fn reset() -> io::Result<()> {
    let default = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    for signal in 1..=SIGNAL_MAX {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the action outlives the call and runs no code of this process; the old one is not
        // asked for (rt_sigaction(2)).
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<KernelAction>(),
                MASK_BYTES,
            )
        };
        done(result)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Ends what [`ignore_children`] began.
pub fn default_children() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default of this signal runs no code of this process.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
    Ok(())
}

/// Lets the kernel reap this process's children.
pub fn ignore_children() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: an ignored signal runs no code of this process.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
    Ok(())
}
