//! The call's intent is in the record; without that nothing runs.

use super::{admitted::Held, approved::Approved, trail::Trail};
use crate::{
    audit::CallReceipt,
    broker::{
        Inner,
        reason::{Reason, Refused},
    },
};

/// A call whose intent is written. Only [`Recorded::record`] makes one.
#[must_use]
pub struct Recorded {
    approved: Approved,
    receipt: CallReceipt,
}

impl Recorded {
    /// Where the verb is durable, the record is on the disk when this returns.
    pub(in crate::broker) async fn record(
        inner: &Inner,
        approved: Approved,
        trail: &Trail,
    ) -> Result<Self, (Refused, Held)> {
        let durable = approved.admitted().validated().verb().durable;
        match inner.journal.call(trail.record(), durable).await {
            Ok(receipt) => Ok(Self { approved, receipt }),
            Err(error) => {
                let refused = Refused::because(Reason::AuditUnavailable, error);
                Err((refused, approved.into_held()))
            }
        }
    }

    /// The call.
    pub(super) fn approved(&self) -> &Approved {
        &self.approved
    }

    /// What it holds, and the record that its outcome belongs to.
    pub(super) fn into_parts(self) -> (Held, CallReceipt) {
        (self.approved.into_held(), self.receipt)
    }
}
