//! Why a grant was not given.

use common::{
    id::SessionId,
    limits::{GRANTS_MAX, GRANTS_PER_ADDRESS_MAX, GRANTS_PER_SESSION_MAX},
};

use crate::kernel::Error;

/// Of what there are as many as there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Grants of one address in a session.
    Address,
    /// Addresses of one session.
    Session,
    /// Addresses of all sessions.
    Agent,
}

/// Why a grant was not given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No room.
    #[error("grants: {} (at most {})", scope.sentence(), scope.limit())]
    Full {
        /// Of what there are too many.
        scope: Scope,
    },
    /// The session has ended.
    #[error("grants: session {0} is not there")]
    NoSession(SessionId),
    /// The kernel refused.
    #[error(transparent)]
    Map(#[from] Error),
}

impl Scope {
    fn sentence(self) -> &'static str {
        match self {
            Self::Address => "too many living grants for one address of a session",
            Self::Session => "too many addresses in one session",
            Self::Agent => "too many addresses in all sessions",
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Address => GRANTS_PER_ADDRESS_MAX,
            Self::Session => GRANTS_PER_SESSION_MAX as usize,
            Self::Agent => GRANTS_MAX as usize,
        }
    }
}
