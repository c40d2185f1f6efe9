//! How risky the call is, by its policy's words.

use super::admitted::Admitted;

/// A call whose risk is known. Only [`Assessed::assess`] makes one.
#[must_use]
pub struct Assessed {
    admitted: Admitted,
    risk: Risk,
}

/// What the policy wants of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum Risk {
    /// Nothing more.
    Ordinary,
    /// That somebody approves it.
    Approval,
}

impl Assessed {
    /// A policy that names conditions for an approval has it asked for every call: a condition that
    /// is not evaluated holds.
    pub(in crate::broker) fn assess(admitted: Admitted) -> Self {
        let risk = if admitted.validated().verb().approval {
            Risk::Approval
        } else {
            Risk::Ordinary
        };
        Self { admitted, risk }
    }

    /// The risk.
    pub(super) fn risk(&self) -> Risk {
        self.risk
    }

    /// The call.
    pub(super) fn into_admitted(self) -> Admitted {
        self.admitted
    }
}
