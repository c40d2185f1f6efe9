//! What agent, launcher, template and init say to each other: one JSON value a message. All of them
//! are the same binary, so there is no version.

use std::{ffi::OsString, io};

use serde::{Deserialize, Serialize};

use crate::sandbox::{Plan, error::StepError};

/// Hidden subcommand of the binary.
pub(super) const SUBCOMMAND: &str = "launcher";

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
    /// Process 1 is there; with its descriptor.
    Cloned,
    /// A step failed; nothing runs.
    Failed(StepError),
}

/// Init to agent, a line each, over the status pipe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Status {
    /// The worker's program was executed.
    Started,
    /// A step failed; the session ends.
    Failed(StepError),
    /// The worker ended by itself.
    Exited(u8),
    /// The worker was ended by a signal.
    Signalled(i32),
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
