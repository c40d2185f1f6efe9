//! Workers: processes in a fence that the daemon starts, and what is said to them.
//!
//! Every byte that a worker emits is foreign: bounded, parsed strictly, checked again by whoever
//! asked. This knows the two protocols and nothing of callers' rights.

mod answer;
mod client;
mod errors;
pub(in crate::broker) mod json;
mod lines;
mod message;
mod pin;
mod pool;
mod process;

use std::{os::fd::OwnedFd, pin::Pin, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::oneshot;

pub use pool::{Key, Pool};

pub(in crate::broker) use client::Client;
pub(in crate::broker) use process::Process;

use super::{
    FrameLimits,
    reason::{Fault, Reason, Refused},
};
use crate::{audit::Caller, policy::compiled::CompiledPolicy};

/// A worker that is to be started in its fence.
pub struct Order {
    /// The policy: this one and no later one.
    pub policy: Arc<CompiledPolicy>,
    /// For whom.
    pub caller: Caller,
    /// Its standard input, output and error.
    pub stdio: [OwnedFd; 3],
}

/// A worker that runs in its fence. It is ended when `stop` is dropped.
pub struct Fenced {
    /// Its session.
    pub session: u64,
    /// Ends it.
    pub stop: oneshot::Sender<()>,
    /// Tells, once nothing of it is left, how it ended.
    pub ended: oneshot::Receiver<Ended>,
}

/// How a worker ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself, with exit code 0.
    Well,
    /// Otherwise; for the log.
    Badly(String),
}

/// No worker was started.
#[derive(Debug)]
pub enum NotStarted {
    /// As many run as may run at once.
    Busy,
    /// The agent stops.
    Stopping,
    /// The policy of the call is not in force any more.
    Changed,
    /// Otherwise; for the log.
    Failed(String),
}

/// A worker on its way.
pub type Starting = Pin<Box<dyn Future<Output = Result<Fenced, NotStarted>> + Send>>;

/// What is said to a worker.
pub(in crate::broker) struct Asked<'a> {
    /// The tool.
    pub(in crate::broker) tool: &'a str,
    /// The operation, in the worker's words.
    pub(in crate::broker) verb: &'a str,
    /// Its arguments, validated.
    pub(in crate::broker) arguments: &'a Value,
    /// Where progress goes.
    pub(in crate::broker) progress: Option<&'a tokio::sync::mpsc::Sender<Value>>,
}

/// What a worker said, in the envelope that both protocols share; parsed and bounded, nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker) struct Answer {
    /// MCP content blocks.
    pub(in crate::broker) content: Vec<Value>,
    /// The structured result.
    pub(in crate::broker) structured: Option<Value>,
    /// Whether the tool says that it failed.
    pub(in crate::broker) is_error: bool,
}

/// No answer came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::broker) struct Failure {
    /// What to say.
    pub(in crate::broker) refused: Refused,
    /// Whether the worker may have seen the request: what came of it is unknown then.
    pub(in crate::broker) begun: bool,
    /// Whose doing it is.
    pub(in crate::broker) blame: Blame,
}

/// Whose doing it is that no answer came: what the worker's own failures say of the tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum Blame {
    /// The worker did not start, or did not do its part.
    Worker,
    /// The caller, the host or the operator had it end.
    Other,
}

impl Blame {
    fn of(reason: Reason) -> Self {
        if reason == Reason::LaunchFailed || reason.fault() == Fault::Worker {
            Self::Worker
        } else {
            Self::Other
        }
    }
}

impl Failure {
    /// Before the worker may have seen the request.
    pub(in crate::broker) fn of_start(refused: Refused) -> Self {
        Self {
            blame: Blame::of(refused.reason),
            refused,
            begun: false,
        }
    }

    /// After that.
    pub(in crate::broker) fn of_call(refused: Refused) -> Self {
        Self {
            blame: Blame::of(refused.reason),
            refused,
            begun: true,
        }
    }

    fn before(reason: Reason, detail: impl std::fmt::Display) -> Self {
        Self::of_start(Refused::because(reason, detail))
    }

    fn after(reason: Reason, detail: impl std::fmt::Display) -> Self {
        Self::of_call(Refused::because(reason, detail))
    }
}

impl From<NotStarted> for Failure {
    fn from(not_started: NotStarted) -> Self {
        match not_started {
            NotStarted::Busy => {
                let mut refused = Refused::from(Reason::WorkersBusy);
                refused.retry_after = Some(BUSY_PAUSE);
                Self::of_start(refused)
            }
            NotStarted::Stopping => Self::before(Reason::Stopping, ""),
            NotStarted::Changed => Self {
                // It was not tried.
                blame: Blame::Other,
                ..Self::before(Reason::LaunchFailed, "the policy was changed meanwhile")
            },
            NotStarted::Failed(why) => Self::before(Reason::LaunchFailed, why),
        }
    }
}

/// When to ask again where all workers are busy.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Bounds of what a worker says.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Bounds {
    /// Bytes of one message.
    pub(in crate::broker) bytes: usize,
    /// Depth of one message.
    pub(in crate::broker) depth: usize,
}

impl From<FrameLimits> for Bounds {
    fn from(limits: FrameLimits) -> Self {
        Self {
            bytes: limits.bytes_out,
            depth: limits.depth,
        }
    }
}

impl Bounds {
    /// One strict JSON value.
    fn parse(self, bytes: &[u8]) -> Result<Value, Failure> {
        let limits = crate::json::Limits {
            bytes: self.bytes,
            depth: self.depth,
        };
        crate::json::parse(bytes, limits)
            .map_err(|error| Failure::after(Reason::WorkerMalformed, error))
    }
}

/// What a line of an MCP worker comes to: of an answer that is a result the members of
/// `CallToolResult` that are kept, of any other message nothing.
pub fn heard(line: &[u8], limits: FrameLimits) -> Result<Option<Value>, Refused> {
    let read = || {
        let message::Message::Result { result, .. } =
            message::read(Bounds::from(limits).parse(line)?)?
        else {
            return Ok(None);
        };
        let Answer {
            content,
            structured,
            is_error,
        } = answer::read(result)?;
        let mut kept = json!({ "content": content, "isError": is_error });
        if let (Some(kept), Some(structured)) = (kept.as_object_mut(), structured) {
            kept.insert("structuredContent".to_owned(), structured);
        }
        Ok(Some(kept))
    };
    read().map_err(|failure: Failure| failure.refused)
}

#[cfg(test)]
mod tests;
