//! Signal dispositions.

use std::io;

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};

/// Every signal to its default, none blocked: what a fresh program expects. An ignored signal would
/// stay ignored over an execution (the Rust runtime ignores `SIGPIPE`).
pub fn reset() -> io::Result<()> {
    for signal in Signal::iterator() {
        if signal != Signal::SIGKILL && signal != Signal::SIGSTOP {
            dispose(signal, SigHandler::SigDfl)?;
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Lets the kernel reap this process's children.
pub fn ignore_children() -> io::Result<()> {
    dispose(Signal::SIGCHLD, SigHandler::SigIgn)
}

fn dispose(signal: Signal, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither default nor ignore runs code of this process.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}
