//! How a command fails: one line for what is wrong with its causes, one for what to do, and a code.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use crate::{
    config,
    daemon::{
        LaunchError, StartError,
        control::{channel, protocol::Refused},
        told,
    },
    exit::Code,
    observe, policy,
};

/// Why a command came to nothing.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// A failure with a code.
    pub fn new(code: Code, error: &dyn std::error::Error) -> Self {
        Self::said(code, told(error))
    }

    /// A failure in words: `what: why`, then a line `hint: what to do`.
    pub fn said(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as u8,
            message: message.into(),
        }
    }

    pub(super) fn runtime(error: &io::Error) -> Self {
        Self::new(Code::Software, error)
    }

    pub(super) fn silent_agent() -> Self {
        Self::said(Code::TryAgain, "agent: ended without an answer")
    }

    pub(super) fn odd_answer() -> Self {
        let message = "agent: answered something else\nhint: is it of another version?";
        Self::said(Code::Software, message)
    }

    /// Prints it and gives the exit code.
    pub fn tell(self) -> ExitCode {
        let mut stderr = io::stderr().lock();
        let (red, plain) = if stderr.is_terminal() {
            ("\x1b[31m", "\x1b[0m")
        } else {
            ("", "")
        };
        let told = writeln!(stderr, "{red}error{plain}: {}", self.message);
        // Where stderr is gone the code still tells.
        drop(told);
        self.code.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<channel::Error> for Failure {
    fn from(error: channel::Error) -> Self {
        let code = match error {
            channel::Error::NoAgent(_) => Code::TryAgain,
            channel::Error::NotPermitted(_) => Code::NoPermission,
            channel::Error::Io(_)
            | channel::Error::Long(_)
            | channel::Error::Frame(_)
            | channel::Error::Descriptors
            | channel::Error::Slow => Code::Software,
        };
        Self::new(code, &error)
    }
}

impl From<Refused> for Failure {
    fn from(Refused { code, message }: Refused) -> Self {
        Self { code, message }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.code(), &error)
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::new(error.code(), &error)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::new(Code::Configuration, &error)
    }
}

impl From<observe::log::Error> for Failure {
    fn from(error: observe::log::Error) -> Self {
        Self::new(Code::Configuration, &error)
    }
}

impl From<policy::store::StoreError> for Failure {
    /// A policy error is a page of its own, shown as it is; only a file that can not be read has a cause.
    fn from(error: policy::store::StoreError) -> Self {
        if matches!(error, policy::store::StoreError::Read { .. }) {
            return Self::new(Code::Policy, &error);
        }
        Self::said(Code::Policy, error.to_string())
    }
}

/// Writing to stdout failed: the reader went away, which is no error of ours, or the disk is full.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                code: crate::exit::SIGNAL_BASE.saturating_add(13),
                message: "output: nobody reads it".to_owned(),
            };
        }
        Self::said(Code::CanNotCreate, format!("output: {error}"))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::from(io::Error::from(error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // One that passed through keeps its code.
        error
            .downcast::<Self>()
            .unwrap_or_else(|error| Self::new(Code::Software, error.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Failure;
    use crate::policy::store::read_file;

    #[test]
    fn a_policy_that_can_not_be_read_is_told_with_its_cause() {
        let error = read_file(Path::new("/nonexistent/t.toml")).unwrap_err();
        assert_eq!(
            Failure::from(error).to_string(),
            "policy `/nonexistent/t.toml`: can not be read: No such file or directory (os error 2)"
        );
    }
}
