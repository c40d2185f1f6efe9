//! What agent, launcher and templates say to each other: one JSON value a message. All of them
//! are the same binary, so there is no version. What process 1 is told and tells has forms of its own
//! (`sys::errand`, and below).

use std::{ffi::OsString, io};

use serde::{Deserialize, Serialize};

use super::running::Exit;
use crate::{
    sandbox::{Plan, error::StepError, program::Found},
    sys::errand::ANSWER_WORDS,
};

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

/// Agent to template.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Makes process 1 of a session that nobody has asked for yet; with the status pipe, the session's
    /// cgroup and the socket at which process 1 is to wait, in this order.
    Reserve {
        /// User and group.
        uid: u32,
    },
    /// Has a waiting process 1 make its worker; with standard input, output and error, the socket
    /// that leads to it, and landlock's rules, in this order.
    Launch {
        /// What its process does once the fence stands.
        work: Work,
        /// Whether a controller counts the session's memory.
        memory_counted: bool,
    },
}

/// What the process of a worker does when every layer is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Executes a program: its absolute path, and its arguments.
    Command(Vec<OsString>),
    /// Tries what the fence must refuse, and tells by its exit code what was not.
    SelfTest,
}

/// Descriptors of a request to reserve.
pub(super) const RESERVE_FDS: usize = 3;
/// Descriptors of a request to launch.
pub(super) const LAUNCH_FDS: usize = 5;

/// Template to agent.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The root stands; a template sends a descriptor of it along.
    Ready,
    /// Process 1 waits; with its descriptor, landlock's rules and, where the policy hands something
    /// out, its place.
    Waiting,
    /// Process 1 was told what to do, and tells by the status pipe what became of it; with the program,
    /// where it can be told what led to it.
    Told(Option<Found>),
    /// No answer yet: the pinned files are being summed still, and have been up to here.
    Summing {
        /// Bytes of them.
        bytes: u64,
    },
    /// A step failed; nothing runs.
    Failed(StepError),
}

/// Bytes of what process 1 tells over the status pipe, first: what became of its errand.
pub(super) const ANSWER_BYTES: usize = ANSWER_WORDS * size_of::<i32>();
/// Then, once: how its worker ended.
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
