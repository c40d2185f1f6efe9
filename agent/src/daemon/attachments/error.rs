//! Why something is not attached or not detached.

use super::{state::StateError, target::TargetError};
use crate::{
    audit,
    daemon::error::{StartError, suggestion},
    exit::Code,
    kernel, launcher,
};

/// The word of what clears up when a policy changes.
pub(super) const SEVERAL_POLICIES: &str = "several_policies";

/// Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Not root.
    #[error("attach: only root puts a fence around what others started, and takes it away")]
    NotRoot,
    /// The one who asks is inside.
    #[error("detach: the process that asks is in an attached cgroup, or can not be seen")]
    Inside,
    /// No policy names the tool.
    #[error("policy `{tool}`: there is none{}", suggestion(near.as_deref()))]
    NoPolicy {
        /// What was asked for.
        tool: String,
        /// The nearest name there is.
        near: Option<String>,
    },
    /// The target can not be told.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its cgroup is not there.
    #[error("{0}: has no cgroup now\nhint: start it first, or use the drop-in of docs/attach.md")]
    Absent(String),
    /// It is attached under another policy.
    #[error("{target}: attached already, with the policy `{tool}`\nhint: `stockade detach` first")]
    Taken {
        /// What was to be attached.
        target: String,
        /// The tool of that policy.
        tool: String,
    },
    /// A cgroup above or below it is attached.
    #[error("{target}: `{other}` is attached, and one of the two lies in the other")]
    Nested {
        /// What was to be attached.
        target: String,
        /// The cgroup that is attached.
        other: String,
    },
    /// Two policies match one unit.
    #[error("{target}: the `[match]` of several policies names it: {tools}")]
    Ambiguous {
        /// The unit.
        target: String,
        /// The tools of these policies.
        tools: String,
    },
    /// Its processes have what no fence holds.
    #[error(
        "{target}: its processes could go past the fence: {holes}\n\
         hint: take these away in the unit (docs/attach.md), or say `--weak`"
    )]
    Holes {
        /// What was to be attached.
        target: String,
        /// What they have.
        holes: String,
    },
    /// The resolver can not listen where its processes are.
    #[error("{target}: names can not be resolved in its network namespace: {why}")]
    Namespace {
        /// What was to be attached.
        target: String,
        /// Why not.
        why: String,
    },
    /// Its processes can not be looked at.
    #[error("{target}: its processes can not be looked at: {why}")]
    Unseen {
        /// What was to be attached.
        target: String,
        /// Why not.
        why: String,
    },
    /// It is not attached.
    #[error("{0}: is not attached\nhint: `stockade sessions` shows what is")]
    NotAttached(String),
    /// A policy's `[match]` would attach it again.
    #[error("{target}: `[match]` of the policy `{tool}` names it\nhint: take it out there")]
    Matched {
        /// What was to be detached.
        target: String,
        /// The tool of that policy.
        tool: String,
    },
    /// Too many.
    #[error("attachments: {max} are there, which is the most")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The agent is stopping.
    #[error("agent: stopping")]
    Stopping,
    /// No record, no change.
    #[error(transparent)]
    Journal(#[from] audit::Error),
    /// It could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The hooks or their tables do not take it.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The resolver does not take the sockets.
    #[error("resolver: does not listen there")]
    Resolver(#[source] Box<StartError>),
    /// Nobody could go and look.
    #[error(transparent)]
    Launcher(#[from] launcher::LaunchError),
}

impl AttachError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotRoot | Self::Inside => Code::NoPermission,
            Self::NoPolicy { .. }
            | Self::Taken { .. }
            | Self::Nested { .. }
            | Self::Ambiguous { .. }
            | Self::Holes { .. }
            | Self::NotAttached(_)
            | Self::Matched { .. } => Code::Finding,
            Self::Target(TargetError::Name(_) | TargetError::Relative(_)) => Code::Usage,
            Self::Target(_) | Self::Kernel(_) | Self::Namespace { .. } | Self::Unseen { .. } => {
                Code::Unavailable
            }
            Self::Absent(_) | Self::TooMany { .. } | Self::Stopping => Code::TryAgain,
            Self::Journal(_) | Self::State(_) => Code::CanNotCreate,
            Self::Resolver(_) | Self::Launcher(_) => Code::Software,
        }
    }

    /// A word for records and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotRoot => "not_root",
            Self::Inside => "inside",
            Self::NoPolicy { .. } => "no_policy",
            Self::Target(TargetError::Several { .. }) => "several_cgroups",
            Self::Target(_) => "bad_target",
            Self::Absent(_) => "no_cgroup",
            Self::Taken { .. } => "taken",
            Self::Nested { .. } => "nested",
            Self::Ambiguous { .. } => SEVERAL_POLICIES,
            Self::Holes { .. } => "holes",
            Self::Namespace { .. } => "namespace",
            Self::Unseen { .. } => "unseen",
            Self::NotAttached(_) => "not_attached",
            Self::Matched { .. } => "matched",
            Self::TooMany { .. } => "too_many",
            Self::Stopping => "stopping",
            Self::Journal(_) => "no_record",
            Self::State(_) => "not_kept",
            Self::Kernel(kernel::Error::Unfit { why, .. }) => why.word(),
            Self::Kernel(_) => "kernel",
            Self::Resolver(_) => "resolver",
            Self::Launcher(_) => "launcher",
        }
    }
}
