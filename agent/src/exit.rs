//! Exit codes: what a script can tell apart. The numbers follow `sysexits.h` where one fits.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// Done, and the answer is "no": a check failed, a destination is refused.
    Finding = 1,
    /// The command line is not one of ours.
    Usage = 2,
    /// A policy is wrong (`EX_DATAERR`).
    Policy = 65,
    /// This host lacks something that is needed (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Our bug (`EX_SOFTWARE`).
    Software = 70,
    /// Something can not be made or written (`EX_CANTCREAT`).
    CanNotCreate = 73,
    /// Something else is in the way; later it may work: a second agent, no agent, too many
    /// sessions (`EX_TEMPFAIL`).
    TryAgain = 75,
    /// Not root, or not in the control group (`EX_NOPERM`).
    NoPermission = 77,
    /// The configuration is wrong (`EX_CONFIG`).
    Configuration = 78,
    /// `run`: no worker was started, for a reason of the fence, the policy or the agent. (The worker's
    /// own exit code is passed through otherwise.)
    NotStarted = 125,
    /// `run`: its program was found and can not be executed. As shells and container tools say it.
    NotExecutable = 126,
    /// `run`: its program, or the program's interpreter, is not there.
    NotFound = 127,
}

/// Added to a signal's number to make the exit code of a worker that it ended.
pub const SIGNAL_BASE: u8 = 128;

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
