//! Why the agent does not start, and why a session does not: sorted by whose fault it is, because
//! the fault decides the exit code, the metric and the log level.

use std::{io, path::PathBuf};

use super::{
    checkpoints::NoAuthorities, confine::ConfineError, lock, policies, tokens::TokenError,
};
use crate::{
    audit,
    broker::door,
    config::Instance,
    dns,
    exit::Code,
    kernel, launcher, observe,
    sandbox::{Slipped, error::Step},
    sys::inherited,
};

/// The agent can not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not root.
    #[error("agent: not root\nhint: run it as root or as the service (`systemctl start stockade`)")]
    NotRoot,
    /// The instance is taken, or its folder can not be made.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// The agent can not give up its privileges.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The journal can not be used.
    #[error(transparent)]
    Journal(#[from] audit::Error),
    /// The parent cgroup can not be made, or the kernel side not be loaded or attached.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The policies can not be put in force.
    #[error(transparent)]
    Policies(#[from] policies::ReloadError),
    /// The resolver can not be bound or started.
    #[error(transparent)]
    Names(#[from] dns::Error),
    /// Keys or revocations of tokens can not be had.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// Nobody would be believed to be the one who keeps checkpoints.
    #[error(transparent)]
    Checkpoints(#[from] NoAuthorities),
    /// What is attached can not be told.
    #[error(transparent)]
    Attachments(#[from] super::attachments::StateError),
    /// The launcher does not start.
    #[error(transparent)]
    Launcher(#[from] launcher::LaunchError),
    /// Metrics can not be set up.
    #[error("metrics: can not be set up")]
    Metrics(#[from] prometheus::Error),
    /// The address of the metrics can not be listened on.
    #[error(transparent)]
    Address(#[from] observe::http::BindError),
    /// The control socket can not be made.
    #[error("control socket `{}`: can not be made", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The broker can not be made.
    #[error("broker: can not be made")]
    Broker(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The broker's socket can not be made.
    #[error(transparent)]
    Door(#[from] door::BindError),
    /// The sockets of the service manager can not be taken over.
    #[error("sockets of the service manager: can not be taken over")]
    Inherited(#[from] inherited::Error),
    /// A group can not be looked up.
    #[error("group `{name}`: can not be looked up")]
    Group {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The agent's signals can not be taken over.
    #[error("signals: can not be taken over")]
    Signals(#[source] io::Error),
    /// A folder of the instance is left over and can not be removed.
    #[error("instance `{instance}`: can not be removed")]
    Remove {
        /// The instance.
        instance: Instance,
        /// Why.
        source: io::Error,
    },
}

/// A session was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No policy names the tool.
    #[error("tool `{tool}`: no policy names it{}", suggestion(near.as_deref()))]
    NoPolicy {
        /// What was asked for.
        tool: String,
        /// The nearest name there is.
        near: Option<String>,
    },
    /// The policy that the caller was judged by is not in force any more.
    #[error("tool `{0}`: its policy was changed meanwhile")]
    Changed(String),
    /// The policy has no command, and none was given.
    #[error("tool `{0}`: no command\nhint: `command = [\"/path/to/worker\"]` under `[worker]`")]
    NoCommand(String),
    /// The agent is stopping.
    #[error("agent: stopping")]
    Stopping,
    /// Too many sessions.
    #[error("sessions: {max} are alive\nhint: raise `max` under `[sessions]` in stockade.toml")]
    TooMany {
        /// The bound.
        max: u32,
    },
    /// The fence has holes.
    #[error(
        "policy `{tool}`: its fence did not refuse everything: {slipped}\nhint: `stockade doctor` tells what this host lacks; it is tried again after `stockade reload`"
    )]
    Slipped {
        /// Its tool.
        tool: String,
        /// What slipped through.
        slipped: Slipped,
    },
    /// The self-test of the fence came to no end of its own.
    #[error("policy `{tool}`: the self-test of its fence gave no report: {why}")]
    NoReport {
        /// Its tool.
        tool: String,
        /// What it did instead.
        why: String,
    },
    /// No record, no process.
    #[error(transparent)]
    Journal(#[from] audit::Error),
    /// Descriptors run out.
    #[error("descriptors: can not be duplicated")]
    Descriptors(#[source] io::Error),
    /// The session's cgroup can not be made, or the kernel side does not take the session.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The fence can not be made complete, or the program not executed in it.
    #[error(transparent)]
    Launcher(#[from] launcher::LaunchError),
}

/// Nothing can be proposed.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// No policy names the tool.
    #[error("tool `{tool}`: no policy names it{}", suggestion(near.as_deref()))]
    NoPolicy {
        /// What was asked for.
        tool: String,
        /// The nearest name there is.
        near: Option<String>,
    },
    /// It was never observed.
    #[error(
        "tool `{0}`: nothing was observed since the agent started\nhint: `mode = \"observe\"` in its policy, `stockade reload`, and run it"
    )]
    NotObserved(String),
    /// Nothing of this session is kept apart.
    #[error(
        "session {session}: nothing of it is kept apart for tool `{tool}`\nhint: leave `--session` out"
    )]
    NoSession {
        /// The tool.
        tool: String,
        /// The session.
        session: u64,
    },
    /// The kernel side can not be read.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

impl SuggestError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NoPolicy { .. } | Self::NotObserved(_) | Self::NoSession { .. } => Code::Finding,
            Self::Kernel(_) => Code::Software,
        }
    }
}

pub(super) fn suggestion(near: Option<&str>) -> String {
    near.map_or_else(
        || "\nhint: `stockade status` lists the tools".to_owned(),
        |name| format!("\nhint: `{name}`?"),
    )
}

impl StartError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotRoot => Code::NoPermission,
            Self::Lock(lock::Error::Held { .. }) => Code::TryAgain,
            Self::Lock(lock::Error::Io { .. })
            | Self::Journal(_)
            | Self::Attachments(_)
            | Self::Socket { .. }
            | Self::Broker(_)
            | Self::Door(_)
            | Self::Inherited(_)
            | Self::Group { .. }
            | Self::Remove { .. } => Code::CanNotCreate,
            Self::Confine(_) | Self::Kernel(_) | Self::Launcher(_) | Self::Names(_) => {
                Code::Unavailable
            }
            Self::Policies(error) => error.code(),
            Self::Tokens(error) => error.code(),
            Self::Address(_) | Self::Checkpoints(_) => Code::Configuration,
            Self::Metrics(_) | Self::Signals(_) => Code::Software,
        }
    }
}

impl LaunchError {
    /// The exit code that tells it, as shells and container tools do: 127 where the program is not
    /// there, 126 where it is and can not be executed, 125 for everything else.
    #[must_use]
    pub fn code(&self) -> Code {
        let Self::Launcher(launcher::LaunchError::Step(error)) = self else {
            return Code::NotStarted;
        };
        let absent = [nix::libc::ENOENT, nix::libc::ENOTDIR].contains(&error.errno);
        let of_program = matches!(error.step, Step::Program | Step::Execute);
        if of_program && absent {
            Code::NotFound
        } else if of_program {
            Code::NotExecutable
        } else {
            Code::NotStarted
        }
    }

    /// Whether nothing was tried: the request, not the host, is why.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NoPolicy { .. }
            | Self::Changed(_)
            | Self::NoCommand(_)
            | Self::Stopping
            | Self::TooMany { .. }
            | Self::Journal(_) => true,
            Self::Descriptors(_)
            | Self::Kernel(_)
            | Self::Launcher(_)
            | Self::Slipped { .. }
            | Self::NoReport { .. } => false,
        }
    }
}

/// An error and its causes in one line, hints last: for logs and records.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let told = told(error);
    let lines: Vec<_> = told.lines().map(str::trim).collect();
    lines.join("; ")
}

/// An error and its causes for people, hints on lines of their own at the end.
#[must_use]
pub fn told(error: &dyn std::error::Error) -> String {
    let (mut said, mut hints) = (Vec::new(), Vec::new());
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let (hint, words): (Vec<_>, Vec<_>) = text.lines().partition(|l| l.starts_with("hint: "));
        said.push(words.join("\n"));
        hints.extend(hint.into_iter().map(str::to_owned));
        next = error.source();
    }
    // An error that passes its source's words on would say them twice.
    said.dedup();
    let said = said.join(": ");
    std::iter::once(said)
        .chain(hints)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{LaunchError, chain, told};

    #[test]
    fn hints_come_last() {
        let error = LaunchError::Journal(crate::audit::Error::Open {
            path: "/x".into(),
            source: std::io::Error::from_raw_os_error(28),
        });
        expect!["journal `/x`: can not be opened: No space left on device (os error 28)"]
            .assert_eq(&told(&error));
        let error = LaunchError::NoPolicy {
            tool: "wed".to_owned(),
            near: Some("web".to_owned()),
        };
        expect![[r"
            tool `wed`: no policy names it
            hint: `web`?"]]
        .assert_eq(&told(&error));
        expect!["tool `wed`: no policy names it; hint: `web`?"].assert_eq(&chain(&error));
    }
}
