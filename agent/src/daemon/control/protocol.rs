//! What is said over the control socket. Requests are closed: an unknown key is an error.

mod status;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    attach::{AttachReply, AttachRequest, AttachedInfo},
    policies::{PolicyReply, PolicyRequest},
    token::{TokenReply, TokenRequest},
};
use crate::{
    daemon::{attachments::AttachmentInfo, policies::Entry},
    observe::{event::Event, refused::Refusal},
    sandbox::Measure,
};

pub use status::{IssuerStatus, ResolverStatus};

/// What a connection asks for, in its first frame.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Run a tool's worker; stdin, stdout and stderr come as descriptors beside the frame.
    Run {
        /// The tool.
        tool: String,
        /// Arguments after those of the policy.
        arguments: Vec<String>,
        /// Whether the caller counts what the worker writes, and tells.
        counted: bool,
    },
    /// How the agent is.
    Status {},
    /// The sessions that are alive.
    Sessions {},
    /// Events from now on, until the connection is closed.
    Events {
        /// Of this session only.
        session: Option<u64>,
        /// Of this tool only.
        tool: Option<String>,
    },
    /// Read the policies again.
    Reload {},
    /// The kill switch of a tool.
    Switch {
        /// The tool.
        tool: String,
        /// Whether its calls are taken again.
        on: bool,
    },
    /// What the sessions of a tool hold by names.
    Grants {
        /// The tool.
        tool: String,
    },
    /// The lines of a policy that would have allowed what a tool in `observe` mode did.
    Suggest {
        /// The tool.
        tool: String,
        /// Of this session only.
        session: Option<u64>,
        /// Of the last so many seconds only.
        seconds: Option<u64>,
    },
    /// A fence around what somebody else started.
    Attachment {
        /// What.
        ask: AttachRequest,
    },
    /// Something about access tokens.
    Token {
        /// What.
        ask: TokenRequest,
    },
    /// A change of policies, or the sets that were in force; files come as a descriptor beside the
    /// frame.
    Policies {
        /// What.
        ask: PolicyRequest,
    },
}

/// What the caller of `run` may say while the worker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub enum Meanwhile {
    /// Hand a signal on to it.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// It has written more than it may: end it.
    OutputSpent {},
    /// Nobody writes to its standard output and error any more.
    Written {
        /// Bytes that were written to them.
        bytes: u64,
    },
}

/// What the agent says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The worker runs.
    Started(Started),
    /// The worker has ended and nothing of it is left.
    Ended(Ended),
    /// How the agent is.
    Status(Box<Status>),
    /// The sessions that are alive.
    Sessions {
        /// In the order of their start.
        sessions: Vec<SessionInfo>,
    },
    /// An event.
    Event(Box<Event>),
    /// The listener was too slow.
    Lost {
        /// Events that it will not see.
        events: u64,
    },
    /// The policies of the folder are in force.
    Reloaded {
        /// How many.
        policies: usize,
    },
    /// The kill switch stands as asked.
    Switched {
        /// Whether it stood otherwise before.
        changed: bool,
    },
    /// Grants that have not ended.
    Grants {
        /// By session and address.
        grants: Vec<GrantInfo>,
    },
    /// Lines of a policy.
    Suggested(Suggestion),
    /// What became of a request about a fence around what somebody else started.
    Attachment(AttachReply),
    /// What became of a request about access tokens.
    Token(TokenReply),
    /// What became of a request about policies.
    Policies(PolicyReply),
    /// The request was not carried out.
    Refused(Refused),
}

/// The worker runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// Its session.
    pub session: u64,
    /// What is enforced, per measure.
    pub enforced: serde_json::Value,
    /// Bytes that it may write to standard output and error.
    pub output: u64,
}

/// The worker has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code by the shell's convention: 128 and the signal's number where a signal ended it.
    pub code: u8,
    /// Why, where it did not end by itself.
    pub note: Option<String>,
    /// What was handed out, where anything was left.
    pub output: Option<Output>,
    /// Distinct things that were refused, each with what would allow it.
    pub refused: Vec<Explained>,
    /// Refusals that are missing from the list.
    pub missing: u64,
}

/// What became of what a worker left to be handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// It lies on the host.
    Folder {
        /// Its folder.
        path: String,
        /// Files in it.
        files: u64,
    },
    /// Nothing was handed out.
    Refused {
        /// Why.
        why: String,
    },
}

/// One distinct thing that was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// What and why.
    #[serde(flatten)]
    pub refusal: Refusal,
    /// The lines of TOML that would allow it, where anything would.
    pub toml: Option<String>,
    /// Why one might not want to, or what else to do.
    pub advice: String,
}

/// The request was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Exit code for the command line.
    pub code: u8,
    /// What is wrong, with its causes.
    pub message: String,
}

/// What a session holds by a name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantInfo {
    /// The session.
    pub session: u64,
    /// The address.
    pub address: IpAddr,
    /// The domain rule, canonical.
    pub rule: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// First port that is open.
    pub first_port: u16,
    /// Last port that is open.
    pub last_port: u16,
    /// Whether a TLS handshake for a name is owed.
    pub tls: bool,
    /// How long it still holds.
    pub seconds: u64,
}

/// Lines of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suggestion {
    /// The lines, comments included.
    pub toml: String,
    /// Rules among them.
    pub rules: u64,
    /// Things that no line opens.
    pub remarks: u64,
    /// Events that are missing.
    pub missing: u64,
}

/// How the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its instance.
    pub instance: String,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Cgroup under which all sessions live.
    pub cgroup: String,
    /// Folder of the policy files.
    pub policy_folder: String,
    /// The set in force; nothing where no folder is read.
    pub policy_set: Option<Entry>,
    /// Policies in force.
    pub policies: Vec<PolicyStatus>,
    /// Why the folder as it was last read is not in force.
    pub policy_error: Option<String>,
    /// What is attached.
    #[serde(default)]
    pub attachments: Vec<AttachmentInfo>,
    /// Sessions alive, of workers.
    pub sessions: u64,
    /// Sessions that may be alive at once.
    pub sessions_max: u32,
    /// Places that wait for sessions.
    pub places: PlaceStatus,
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Events that rate limits suppressed.
    pub events_suppressed: u64,
    /// The resolver.
    pub resolver: ResolverStatus,
    /// Token issuers, where calls are taken.
    pub issuers: Vec<IssuerStatus>,
    /// Tools that the kill switch holds off.
    pub tools_off: Vec<String>,
    /// What is right as configured, and weaker than it could be.
    pub warnings: Vec<String>,
    /// What is wrong.
    pub ailments: Vec<String>,
    /// Resident memory of the agent, bytes.
    pub resident_bytes: u64,
}

/// The places that are made ahead.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PlaceStatus {
    /// How many wait for a session.
    pub waiting: u64,
    /// How many may.
    pub max: u64,
    /// How many were made so far.
    pub made: u64,
    /// How many could not be made.
    pub failed: u64,
    /// How many a session took.
    pub used: u64,
    /// Launches that found none.
    pub missed: u64,
}

/// A policy in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its tool.
    pub tool: String,
    /// For people.
    pub description: String,
    /// `enforce` or `observe`.
    pub mode: String,
    /// Its digest, hexadecimal.
    pub digest: String,
    /// Its generation.
    pub generation: u32,
    /// Its rules.
    pub rules: usize,
    /// Its sessions alive.
    pub sessions: u64,
    /// What came of the self-test of its fence.
    pub self_test: SelfTest,
}

/// The self-test of a policy's fence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfTest {
    /// There was no launch yet, or it is under way.
    NotYet,
    /// Everything that was tried was refused.
    Passed,
    /// These attempts were not refused: nothing of this policy is launched.
    Slipped(String),
}

/// A session that is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub session: u64,
    /// Its tool.
    pub tool: String,
    /// Digest of the policy under which it was started.
    pub policy: String,
    /// When it was started (RFC 3339, UTC).
    pub started: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Who asked for it.
    pub caller_uid: u32,
    /// Connections opened; counted only where the policy limits something.
    pub connections: u64,
    /// Bytes sent; counted only where the policy limits something.
    pub bytes_out: u64,
    /// Questions over UDP that were more than the resolver replies to, and were dropped.
    pub questions_dropped: u64,
    /// Distinct things that were refused so far.
    pub refused: u64,
    /// What is enforced, per measure; empty until the worker runs, and where there is none.
    pub enforced: Vec<Measure>,
    /// Its cgroup, where somebody else started its processes.
    #[serde(default)]
    pub attached: Option<AttachedInfo>,
}

#[cfg(test)]
mod tests;
