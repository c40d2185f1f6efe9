//! A call that comes to no answer: what it held is given back, the refusal is recorded.

use std::time::Duration;

use super::{Reply, admitted::Held, recorded::Recorded, trail::Trail, validated::Invalid};
use crate::{
    audit::{CallOutcome, CallReceipt},
    broker::{
        Inner,
        reason::{Reason, Refused},
        worker::{Blame, Failure},
    },
};

/// A call that stops here, with whatever it holds.
#[must_use]
pub(in crate::broker) struct Broken {
    refused: Refused,
    places: Vec<(String, String)>,
    /// Whether a worker may have seen the request.
    begun: bool,
    blame: Blame,
    held: Option<Held>,
    receipt: Option<(CallReceipt, bool)>,
    session: Option<u64>,
    took: Duration,
}

impl Broken {
    /// After its intent was recorded.
    pub(super) fn recorded(
        recorded: Recorded,
        failure: Failure,
        session: Option<u64>,
        took: Duration,
    ) -> Self {
        let durable = recorded.approved().admitted().validated().verb().durable;
        let (held, receipt) = recorded.into_parts();
        Self {
            refused: failure.refused,
            places: Vec::new(),
            begun: failure.begun,
            blame: failure.blame,
            held: Some(held),
            receipt: Some((receipt, durable)),
            session,
            took,
        }
    }

    /// Gives back, records, and says so. A refusal that can not be recorded says that instead.
    pub(in crate::broker) async fn settle(self, inner: &Inner, trail: &Trail) -> Reply {
        let Self {
            mut refused,
            places,
            begun,
            blame,
            held,
            receipt,
            session,
            took,
        } = self;
        if let Some(held) = held {
            if begun {
                held.unknown(blame).await;
            } else {
                held.untouched(blame).await;
            }
        }
        if receipt.is_none() && !inner.noted(&mut refused, trail) {
            return inner.reply(refused, places, None);
        }
        trail.log(&refused);
        let recorded = match receipt {
            Some((receipt, durable)) => {
                let outcome = CallOutcome {
                    code: refused.reason.code(),
                    session,
                    seconds: took.as_secs_f64(),
                    result: None,
                    bytes: 0,
                    replayed: false,
                };
                inner.journal.called(receipt, &outcome, durable).await
            }
            None => inner.refused(trail.record(), &refused).await,
        };
        let record = match recorded {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(%error, "refused call not recorded");
                if refused.reason != Reason::AuditUnavailable {
                    refused = Refused::because(Reason::AuditUnavailable, error);
                }
                None
            }
        };
        inner.reply(refused, places, record)
    }
}

impl From<Refused> for Broken {
    fn from(refused: Refused) -> Self {
        Self {
            refused,
            places: Vec::new(),
            begun: false,
            blame: Blame::Other,
            held: None,
            receipt: None,
            session: None,
            took: Duration::ZERO,
        }
    }
}

impl From<Invalid> for Broken {
    fn from(invalid: Invalid) -> Self {
        Self {
            places: invalid.places,
            ..invalid.refused.into()
        }
    }
}

impl From<Box<(Refused, Held)>> for Broken {
    fn from(held: Box<(Refused, Held)>) -> Self {
        (*held).into()
    }
}

impl From<(Refused, Held)> for Broken {
    fn from((refused, held): (Refused, Held)) -> Self {
        Self {
            held: Some(held),
            ..refused.into()
        }
    }
}
