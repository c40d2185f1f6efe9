//! Lines of the journal. Field names are stable: what reads the journal reads these.

use serde::Serialize;

use super::{
    call::{CallOutcome, CallRecord, Refusal},
    chain::Step,
    token::{KeyRotated, TokenIssued, TokensRevoked},
};

/// What a line says besides its number, the hash of the line before, and when it was written.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(super) enum Entry<'a, E: Serialize> {
    /// The agent opened the journal.
    Opened { version: &'static str, pid: u32 },
    /// The bytes before this line, back to the last whole record, were never finished.
    Torn { bytes: u64, sha256: &'a str },
    /// The journal goes on from an older file that has no chain; from here on it has one.
    Adopted {
        file: &'a str,
        bytes: u64,
        sha256: &'a str,
    },
    /// A new file begins. The checkpoint is of the last record of the file before; `open` are the
    /// records whose end is still to be told.
    Segment {
        checkpoint: &'a str,
        open: &'a [u64],
    },
    /// What that record began ended unseen: the agent was killed, or the call was given up.
    OutcomeUnknown { begun: u64 },
    /// A call is about to run.
    Call(&'a CallRecord),
    /// A call has ended.
    Called {
        call: u64,
        #[serde(flatten)]
        outcome: &'a CallOutcome,
    },
    /// A call was not carried out.
    Refused {
        #[serde(flatten)]
        call: &'a CallRecord,
        #[serde(flatten)]
        refusal: Refusal<'a>,
    },
    /// A session is about to be launched; its id is this record's number.
    Intent(&'a Intent<'a>),
    /// A session has ended.
    Outcome {
        session: u64,
        #[serde(flatten)]
        outcome: &'a Outcome<'a, E>,
    },
    /// A policy's fence is about to be tested; the test's session is this record's number.
    SelfTest { tool: &'a str, policy: &'a str },
    /// The test has ended: what its fence did not refuse, or why nothing was tried.
    SelfTested {
        session: u64,
        #[serde(flatten)]
        tested: Tested<'a>,
    },
    /// A token is about to be handed out.
    TokenIssued(&'a TokenIssued<'a>),
    /// The agent's own issuer signs with another key.
    TokenKeyRotated(&'a KeyRotated<'a>),
    /// Tokens are refused from now on.
    TokensRevoked(&'a TokensRevoked<'a>),
    /// A session of an agent that was killed was found and ended.
    Leftover { session: u64, cgroup: &'a str },
    /// Another set of policies is about to be put in force.
    Policies(&'a PolicyChange<'a>),
    /// A cgroup that somebody else made is about to be fenced; its session is this record's number.
    Attached(&'a AttachRecord<'a>),
    /// That fence is gone, and why.
    Detached {
        session: u64,
        why: &'a str,
        refused: &'a [serde_json::Value],
    },
    /// Something was not attached.
    AttachRefused(&'a AttachRefused<'a>),
    /// It was not: what was in force before still is.
    PoliciesKept {
        before: Option<&'a str>,
        why: &'a str,
    },
}

impl<E: Serialize> Entry<'_, E> {
    /// What it begins or ends. What is read back is told by [`super::chain::Link::step`].
    pub(super) fn step(&self) -> Step {
        match self {
            Self::Intent(_) | Self::SelfTest { .. } | Self::Call(_) => Step::Begins,
            Self::Outcome { session, .. } | Self::SelfTested { session, .. } => {
                Step::Ends(*session)
            }
            Self::Called { call, .. } => Step::Ends(*call),
            Self::OutcomeUnknown { begun } => Step::Ends(*begun),
            Self::Opened { .. }
            | Self::Torn { .. }
            | Self::Adopted { .. }
            | Self::Segment { .. }
            | Self::Refused { .. }
            | Self::TokenIssued(_)
            | Self::TokenKeyRotated(_)
            | Self::TokensRevoked(_)
            | Self::Leftover { .. }
            | Self::Policies(_)
            // A fence outlives the agent: it has not ended where nobody wrote down its end.
            | Self::Attached(_)
            | Self::Detached { .. }
            | Self::AttachRefused(_)
            | Self::PoliciesKept { .. } => Step::Tells,
        }
    }
}

/// What came of a self-test.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tested<'a> {
    /// The attempts that were not refused: none, if all is well.
    Slipped(&'a [&'static str]),
    /// There was no test.
    Failed(&'a str),
}

/// An entry that holds nothing of the sandbox's.
pub(super) type Plain<'a> = Entry<'a, ()>;

/// What is about to run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Intent<'a> {
    /// The tool.
    pub tool: &'a str,
    /// Digest of its policy, hexadecimal.
    pub policy: &'a str,
    /// Program and arguments, as text.
    pub command: &'a [String],
    /// Who asked.
    pub caller: Caller,
}

/// Another set of policies.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PolicyChange<'a> {
    /// What brought it: `start`, `reload`, `push` and the like.
    pub origin: &'a str,
    /// Digest of the set in force, hexadecimal; nothing before the first.
    pub before: Option<&'a str>,
    /// Digest of the set that is to be, hexadecimal.
    pub after: &'a str,
    /// Its tools.
    pub tools: usize,
    /// Who asked; nobody where the agent began or a signal came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// A cgroup that somebody else made, and that is about to be fenced.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AttachRecord<'a> {
    /// What is attached: a cgroup or a unit.
    pub target: &'a str,
    /// Folder of the cgroup.
    pub cgroup: &'a str,
    /// The tool of the policy.
    pub tool: &'a str,
    /// Digest of the policy, hexadecimal.
    pub policy: &'a str,
    /// Whether its processes may keep what no fence holds.
    pub weak: bool,
    /// What they have of that kind.
    pub holes: &'a [String],
    /// Who asked; nobody where the agent follows what it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// What was not attached.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AttachRefused<'a> {
    /// A cgroup or a unit.
    pub target: &'a str,
    /// The tool of the policy.
    pub tool: &'a str,
    /// A word.
    pub reason: &'a str,
    /// The whole sentence.
    pub why: &'a str,
    /// Who asked; nobody where the agent follows what it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// The process that asked for a session, as the kernel tells it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process, or 0 where it is not known.
    pub pid: i32,
}

/// What came of a session. `E` is what was enforced, in the sandbox's own words.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome<'a, E: Serialize> {
    /// How it ended.
    pub end: End,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// What it used.
    pub used: Spent,
    /// What was enforced, per measure; absent when the worker was not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<&'a E>,
    /// What was handed out; absent where the policy hands out nothing or nothing was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<&'a HandedOut>,
    /// Whoever counted what the worker wrote has not told, so that `end` may lack that it was too much.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub output_uncounted: bool,
    /// Distinct things that were refused.
    pub refused: &'a [serde_json::Value],
    /// Events that were lost or suppressed, so that `refused` may lack something.
    pub events_missing: u64,
}

/// What became of what a worker left to be handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandedOut {
    /// It lies in a folder of the host.
    Folder {
        /// The folder.
        path: String,
        /// Files in it.
        files: u64,
        /// Folders in it.
        folders: u64,
        /// Bytes of the files.
        bytes: u64,
    },
    /// Nothing was handed out; why.
    Refused(String),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The worker ended by itself.
    Exit(u8),
    /// A signal ended the worker.
    Signal(i32),
    /// The session had lasted as long as its policy lets it.
    WallTimeout,
    /// The session used no processor time for as long as its policy lets it.
    IdleTimeout,
    /// The session used up its processor time.
    CpuTime,
    /// The session used up its memory, and the kernel ended it.
    Memory,
    /// The session wrote more than its policy lets it.
    Output,
    /// The caller went away.
    CallerGone,
    /// The agent stopped.
    AgentStopped,
    /// The policy went away.
    PolicyRemoved,
    /// The worker was not started; why.
    NotStarted(String),
    /// What became of the worker can not be told; why.
    Unknown(String),
}

/// What a session used, as the kernel counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Connections opened; counted only where the policy limits something.
    pub connections: u64,
    /// Bytes of IP packets sent; counted only where the policy limits something.
    pub bytes_out: u64,
}
