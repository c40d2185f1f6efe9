//! What comes in through a door, and what goes out: the same for every door.

mod admitted;
mod approved;
mod assessed;
pub(in crate::broker) mod authenticated;
pub(in crate::broker) mod chain;
mod finished;
mod recorded;
mod released;
mod running;
mod settled;
pub(in crate::broker) mod trail;
pub(in crate::broker) mod validated;

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

pub use self::{
    admitted::Admitted, approved::Approved, assessed::Assessed, authenticated::Authenticated,
    finished::Finished, recorded::Recorded, released::Released, running::Running,
    validated::Validated,
};
use super::reason::Refused;
use crate::audit::Caller;

/// Through which door a call came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Door {
    /// Newline-delimited JSON-RPC.
    Lines,
    /// MCP over HTTP.
    Http,
    /// The plain JSON face.
    Plain,
}

impl Door {
    /// For records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Http => "http",
            Self::Plain => "plain",
        }
    }
}

/// What the caller shows of itself, as it stood in the request. Never logged.
#[derive(Default)]
pub struct Credentials {
    /// The access token, without its scheme.
    pub token: Option<String>,
    /// The `DPoP` proof.
    pub proof: Option<String>,
}

/// One call as a door took it: framed, parsed strictly, nothing checked.
pub struct Received {
    /// The door.
    pub door: Door,
    /// The process at the other end (`SO_PEERCRED`).
    pub peer: Caller,
    /// What it shows.
    pub credentials: Credentials,
    /// The tool.
    pub tool: String,
    /// The verb.
    pub verb: String,
    /// The arguments: an object, from the strict parser.
    pub arguments: Value,
    /// SHA-256 of the request's body as it came (of the line, for newline-delimited JSON).
    pub body_digest: [u8; 32],
    /// The caller's idempotency key.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the prompt as the caller asserts it, hexadecimal.
    pub prompt_hash: Option<String>,
    /// Where progress of the worker goes (`params` of MCP's `notifications/progress`), if anybody wants it.
    pub progress: Option<mpsc::Sender<Value>>,
    /// Ends the call when it becomes true or its sender goes away.
    pub cancelled: tokio::sync::watch::Receiver<bool>,
}

/// What the caller gets; recorded by then.
#[derive(Debug)]
pub enum Reply {
    /// The worker's result.
    Done(Done),
    /// The call was not carried out.
    Refused {
        /// Why.
        refused: Refused,
        /// For refused arguments: JSON pointer and rule of each place (RFC 6901), never a value.
        places: Vec<(String, String)>,
        /// The nonce that the next proof must carry (RFC 9449, 8).
        nonce: Option<String>,
        /// Number of the record.
        record: Option<u64>,
    },
}

/// A result, bounded, checked against its schema, re-serialised.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// MCP content blocks.
    pub content: Vec<Value>,
    /// The structured result.
    pub structured: Option<Value>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
    /// Whether this answer was given before (same idempotency key).
    pub replayed: bool,
    /// Number of the record.
    pub record: u64,
    /// How long the worker took.
    pub took: Duration,
}

/// A verb as a caller may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The tool.
    pub tool: String,
    /// The verb.
    pub verb: String,
    /// For the model.
    pub description: String,
    /// JSON Schema of the arguments.
    pub arguments: Value,
    /// JSON Schema of the structured result.
    pub result: Option<Value>,
}
