//! Whether everybody who must approve the call has done so.

use super::{
    admitted::{Admitted, Held},
    assessed::{Assessed, Risk},
};
use crate::broker::reason::{Reason, Refused};

/// A call that needs no further yes. Only [`Approved::decide`] makes one.
#[must_use]
pub struct Approved {
    admitted: Admitted,
}

impl Approved {
    /// Nobody can give an approval here, so a call that needs one is refused; it gives back what it
    /// held.
    pub(in crate::broker) fn decide(assessed: Assessed) -> Result<Self, Box<(Refused, Held)>> {
        let risk = assessed.risk();
        let admitted = assessed.into_admitted();
        match risk {
            Risk::Ordinary => Ok(Self { admitted }),
            Risk::Approval => {
                let refused = Reason::ApprovalRequired.into();
                Err(Box::new((refused, admitted.into_held())))
            }
        }
    }

    /// The call.
    pub(super) fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// What it holds.
    pub(super) fn into_held(self) -> Held {
        self.admitted.into_held()
    }
}
