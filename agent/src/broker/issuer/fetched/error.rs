//! Why keys were not fetched, for log, `status` and the metric. None of these holds bytes of an answer.

use std::io;

use crate::broker::issuer::jwks;

/// Keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("{origin}: no connection: {source}")]
    Connect {
        /// To where.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// The server is not believed to be the one of that name.
    #[error("{origin}: no TLS: {source}\nhint: `ca` names the authorities that are trusted")]
    Tls {
        /// With whom.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// No HTTP, or cut off.
    #[error("no whole answer: {0}")]
    Http(#[from] hyper::Error),
    /// Not within its time.
    #[error("not within its time")]
    Slow,
    /// It leads elsewhere.
    #[error("answered {0}: no redirect is followed\nhint: `jwks_uri` names the place of the keys")]
    Redirect(u16),
    /// Another status than 200.
    #[error("answered {0}")]
    Status(u16),
    /// Not said to be JSON.
    #[error("the answer's content type is not JSON")]
    Type,
    /// Compressed, which was not asked for.
    #[error("the answer is encoded")]
    Encoded,
    /// Larger than it may be.
    #[error("the answer is larger than {0} bytes")]
    Size(usize),
    /// What the issuer says of itself is not believed.
    #[error("what it says of itself: {0}")]
    Discovery(#[from] DiscoveryError),
    /// No key set that is believed.
    #[error("its keys: {0}")]
    Keys(#[from] jwks::Error),
}

/// What an issuer says of itself does not lead to keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not strict JSON.
    #[error("{0}")]
    Json(#[from] crate::json::Error),
    /// It is another issuer's.
    #[error("`issuer` is not the one that is configured")]
    Issuer,
    /// It names no place of keys.
    #[error("`jwks_uri` lacks or is no URL that is taken")]
    Keys,
    /// Its keys lie with somebody else, whom nobody configured.
    #[error(
        "`jwks_uri` is of another origin\nhint: `jwks_uri` in stockade.toml names that origin, if it is the right one"
    )]
    Origin,
}

/// How a fetch ended, as the metric has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Keys were had.
    Success,
    /// Nobody was reached, or nobody who is believed.
    Unreachable,
    /// It took too long.
    Slow,
    /// The answer was another than 200.
    Status,
    /// What was answered is not believed.
    Refused,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub const ALL: [Self; 5] = [
        Self::Success,
        Self::Unreachable,
        Self::Slow,
        Self::Status,
        Self::Refused,
    ];

    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::Status => "status",
            Self::Refused => "refused",
        }
    }
}

impl FetchError {
    /// How the metric has it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Connect { .. } | Self::Tls { .. } | Self::Http(_) => Outcome::Unreachable,
            Self::Slow => Outcome::Slow,
            Self::Redirect(_) | Self::Status(_) => Outcome::Status,
            Self::Type | Self::Encoded | Self::Size(_) | Self::Discovery(_) | Self::Keys(_) => {
                Outcome::Refused
            }
        }
    }
}
