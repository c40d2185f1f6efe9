//! What agent, launcher and templates say to each other: one JSON value a message. All of them
//! are the same binary, so there is no version. Process 1 tells four bytes, and nothing is told to it.

use std::{ffi::OsString, io};

use serde::{Deserialize, Serialize};

use super::running::Exit;
use crate::sandbox::{Plan, error::StepError};

/// Hidden subcommand of the binary.
pub(super) const SUBCOMMAND: &str = "launcher";

/// Agent to launcher, with a socket on which it says [`Reply::Ready`]: no plan is a string.
pub(super) const PING: &str = "ping";

/// Agent to launcher; with the template's socket.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// The fence.
    pub plan: Plan,
}

/// Agent to template; with standard input, output and error, the status pipe and the session's
/// cgroup, in this order.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// User and group.
    pub uid: u32,
    /// What its process does once the fence stands.
    pub work: Work,
    /// Whether a controller counts the session's memory.
    pub memory_counted: bool,
}

/// What the process of a worker does when every layer is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Executes a program: its absolute path, and its arguments.
    Command(Vec<OsString>),
    /// Tries what the fence must refuse, and tells by its exit code what was not.
    SelfTest,
}

/// Descriptors of a `Launch`.
pub(super) const LAUNCH_FDS: usize = 5;

/// Template to agent.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The root stands.
    Ready,
    /// The worker's program was executed; with the descriptor of process 1.
    Started,
    /// A step failed; nothing runs.
    Failed(StepError),
}

/// Bytes of what process 1 tells over the status pipe, once: how its worker ended.
pub const STATUS_BYTES: usize = 4;

/// How a worker ended, from its wait status (`wait(2)`) in the machine's byte order.
///
/// # Errors
///
/// Where it says anything else than an end.
pub fn ended(status: [u8; STATUS_BYTES]) -> io::Result<Exit> {
    let status = i32::from_ne_bytes(status);
    if libc::WIFEXITED(status) && status & !0xff00 == 0 {
        let code = u8::try_from(libc::WEXITSTATUS(status)).map_err(io::Error::other)?;
        return Ok(Exit::Code(code));
    }
    // Bit 7 tells of a core dump; nothing is above.
    if libc::WIFSIGNALED(status) && status & !0xff == 0 {
        return Ok(Exit::Signal(libc::WTERMSIG(status)));
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Bytes of a value.
///
/// # Errors
///
/// Where the value has no JSON form.
pub fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// A value from bytes.
///
/// # Errors
///
/// Where the bytes are not one whole value of this type.
pub fn decode<'bytes, T: Deserialize<'bytes>>(bytes: &'bytes [u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(bytes)?)
}
