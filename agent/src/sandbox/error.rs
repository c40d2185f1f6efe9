//! What can go wrong with a fence: when it is computed, and when it is put up.

use std::{fmt, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::sockets::SocketError;

/// A policy's fence can not be computed on this host.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A listed path is not there.
    #[error("filesystem.{list} `{path}`: {source}\nhint: create it or take it off the list", path = path.display())]
    Missing {
        /// Which list names it.
        list: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A listed path would replace a part of the root that is the session's own.
    #[error(
        "filesystem.{list} `{path}`: `{own}` of a worker is its own\nhint: {hint}", path = path.display()
    )]
    OwnPlace {
        /// Which list names it.
        list: &'static str,
        /// The path.
        path: PathBuf,
        /// Which place.
        own: &'static str,
        /// What to write instead.
        hint: &'static str,
    },
    /// The folder for what is handed out can not be used.
    #[error("filesystem.output `{path}`: {source}\nhint: {hint}", path = path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The policy adds a call that would open the fence.
    #[error("syscalls.allow `{name}`: {why}")]
    CallOpensFence {
        /// The call.
        name: String,
        /// Why it stays shut.
        why: &'static str,
    },
    /// The policy names a call that no table knows.
    #[error("syscalls.{list} `{name}`: not a system call of this architecture{hint}")]
    UnknownCall {
        /// Which list names it.
        list: &'static str,
        /// The call.
        name: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A filter is longer than the kernel takes: a fault of the tables.
    #[error("system call filter: {0} instructions; the kernel takes 4096")]
    FilterTooLong(usize),
    /// The kernel has no landlock.
    #[error(
        "landlock: {0}\nhint: boot with `landlock` in the `lsm=` list; Linux 5.13 or newer has it"
    )]
    Landlock(io::Error),
    /// A unix socket that the policy names can not be a door.
    #[error("local.allow unix `{path}`: {error}", path = path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// Why.
        error: SocketError,
    },
    /// The environment can not be passed on.
    #[error("environment `{0}`: a name or value with a NUL byte or `=` can not be passed on")]
    Environment(String),
}

/// The steps of putting up a fence, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The launcher understands what it is asked.
    Request,
    /// A mount namespace for the policy.
    MountNamespace,
    /// The policy's root.
    Root,
    /// Landlock rules.
    Landlock,
    /// Pinned files.
    Pin,
    /// The program's file.
    Program,
    /// Process 1, inside its cgroup and namespaces.
    Clone,
    /// The session's own mounts.
    Mounts,
    /// Memory files without execution.
    MemfdNoexec,
    /// Host name of the session.
    HostName,
    /// The worker's process.
    Fork,
    /// A terminal session of its own.
    TerminalSession,
    /// Standard input, output and error.
    Stdio,
    /// Resource limits.
    Limits,
    /// Bounding set and securebits.
    Bounding,
    /// User and groups.
    Identity,
    /// Session keyring.
    Keyring,
    /// Capability sets.
    Capabilities,
    /// The signal at the death of process 1.
    DeathSignal,
    /// `no_new_privs`
    NoNewPrivileges,
    /// System call filters.
    Seccomp,
    /// Descriptors that must not pass on.
    Descriptors,
    /// The program.
    Execute,
    /// Watching over the worker.
    Supervise,
}

/// A step that failed, as it travels from the process that took it to the agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepError {
    /// Which.
    pub step: Step,
    /// On what, and what was wrong.
    pub detail: String,
    /// The kernel's answer; 0 where it was not the kernel's.
    pub errno: i32,
}

impl StepError {
    /// A failure that is not the kernel's.
    pub fn new(step: Step, detail: impl Into<String>) -> Self {
        Self {
            step,
            detail: detail.into(),
            errno: 0,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, hint) = match self.detail.split_once('\n') {
            Some((what, hint)) => (what, Some(hint)),
            None => (self.detail.as_str(), None),
        };
        f.write_str(what)?;
        if self.errno != 0 {
            let errno = nix::errno::Errno::from_raw(self.errno);
            write!(f, ": {}", errno.desc())?;
        }
        hint.map_or(Ok(()), |hint| write!(f, "\n{hint}"))
    }
}

impl std::error::Error for StepError {}

/// Names the step at which an operation failed.
pub trait At<T> {
    /// The step and what was worked on.
    fn at(self, step: Step, on: impl Into<String>) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step, on: impl Into<String>) -> Result<T, StepError> {
        self.map_err(|error| {
            let error = error.into();
            let on = on.into();
            match error.raw_os_error() {
                Some(errno) => StepError {
                    step,
                    detail: on,
                    errno,
                },
                None => StepError::new(step, format!("{on}: {error}")),
            }
        })
    }
}
