//! Why a session was not started.

use std::io;

use common::id::SessionId;

use super::streams::NotAStream;
use crate::sandbox::{
    PlanError,
    error::{Step, StepError},
    uids::UidError,
};

/// Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The policy's fence can not be computed on this host.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No user id.
    #[error(transparent)]
    Uid(#[from] UidError),
    /// A standard stream that no worker gets.
    #[error(transparent)]
    Stream(#[from] NotAStream),
    /// The launcher process can not be started.
    #[error("launcher: {0}")]
    Start(io::Error),
    /// The launcher or a template ended, or can not be spoken to.
    #[error("launcher: {0}\nhint: the agent's standard error may say why it ended")]
    Lost(io::Error),
    /// A step of the fence failed.
    #[error("fence: step {step:?}: {0}", step = .0.step)]
    Step(StepError),
    /// Our bug: the proofs of a launch are of another session or cgroup.
    #[error("session {session}: the hooks admitted another session or cgroup")]
    ForeignProof {
        /// The session that was to be launched.
        session: SessionId,
    },
    /// The fence did not stand in time.
    #[error("fence: not ready within {seconds} s")]
    Late {
        /// The limit.
        seconds: u64,
    },
    /// A file system does not answer.
    #[error(
        "filesystem: the paths of the policy were not looked up within {seconds} s\n\
         hint: one of them may lie on a file system that does not answer (NFS, FUSE): `stat` tells which"
    )]
    Unanswered {
        /// The limit.
        seconds: u64,
    },
    /// The pinned files are many or large, and are summed for the first time.
    #[error(
        "pinned files of the policy: still being summed, {bytes} bytes so far\n\
         hint: start the session again in a while: sums are kept"
    )]
    Summing {
        /// Bytes that were summed.
        bytes: u64,
    },
}

impl LaunchError {
    /// The step that failed, where it was one.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Step(error) => Some(error.step),
            Self::Plan(_)
            | Self::Uid(_)
            | Self::Start(_)
            | Self::Lost(_)
            | Self::ForeignProof { .. }
            | Self::Stream(_)
            | Self::Late { .. }
            | Self::Unanswered { .. }
            | Self::Summing { .. } => None,
        }
    }
}
