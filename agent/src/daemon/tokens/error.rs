//! Why tokens can not be checked, or what was asked about them was not done.

use crate::{
    audit,
    broker::{issuer, proof::NoSecret},
    exit::Code,
};

/// Tokens can not be checked, or what was asked about them not done.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Keys or revocations can not be had or kept.
    #[error(transparent)]
    Issuer(#[from] issuer::Error),
    /// No secret for proofs.
    #[error(transparent)]
    Proofs(#[from] NoSecret),
    /// The state folder can not be made.
    #[error("`{path}`: can not be made")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A thumbprint or digest has another shape.
    #[error("token: `{0}` is no SHA-256 value in base64url")]
    Digest(&'static str),
    /// It can not be recorded: nothing was handed out.
    #[error("token: can not be recorded, so none is issued")]
    Record(#[source] audit::Error),
    /// It could not be recorded, and is in force all the same: what takes rights away does not wait.
    #[error("token: in force, but not recorded")]
    Unrecorded(#[source] audit::Error),
    /// Longer than tokens may live.
    #[error(
        "token: {asked} s is longer than {max} s\nhint: `lifetime_max` under `[broker.token]` in stockade.toml, up to 15m"
    )]
    Lifetime {
        /// What was asked for, seconds.
        asked: u64,
        /// What is configured, seconds.
        max: u64,
    },
    /// This engine runs one worker and no broker.
    #[error("token: this agent has no broker")]
    None,
    /// The agent stops.
    #[error("token: the agent stops")]
    Stopping,
}

impl TokenError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Issuer(issuer::Error::Order(_)) | Self::Digest(_) | Self::Lifetime { .. } => {
                Code::Usage
            }
            Self::Issuer(
                issuer::Error::Read { .. }
                | issuer::Error::Keys { .. }
                | issuer::Error::Authorities { .. }
                | issuer::Error::Twice(_),
            ) => Code::Configuration,
            Self::Issuer(issuer::Error::Full) | Self::Stopping => Code::TryAgain,
            Self::Issuer(issuer::Error::File(_) | issuer::Error::Damaged { .. })
            | Self::Folder { .. } => Code::CanNotCreate,
            Self::Issuer(issuer::Error::Pair(_)) | Self::Proofs(_) => Code::Software,
            Self::None | Self::Record(_) | Self::Unrecorded(_) => Code::Unavailable,
        }
    }
}
