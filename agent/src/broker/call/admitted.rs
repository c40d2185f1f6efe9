//! Whether there is room for the call, and whether it was made before.

use std::time::Instant;

use super::{trail::Trail, validated::Validated};
use crate::{
    broker::{
        Inner,
        idempotency::{self, Claim, Claimed, StoredReply},
        limit::{Permit, Who},
        reason::Refused,
    },
    clock::BootTime,
    policy::compiled::Idempotency,
};

/// A call that has its place among the calls that run. Only [`Admitted::admit`] makes one.
#[must_use]
pub struct Admitted {
    validated: Validated,
    held: Held,
}

/// What a call holds until its end: its place, and its idempotency key.
#[must_use]
pub(in crate::broker) struct Held {
    permit: Permit,
    claim: Option<Claimed>,
}

/// What becomes of a call that fits.
pub(in crate::broker) enum Admission {
    /// It goes on.
    New(Box<Admitted>),
    /// It was made before: this was its answer.
    Before {
        /// Whether its record waits for the disk.
        durable: bool,
        /// The answer.
        reply: StoredReply,
    },
}

impl Admitted {
    pub(in crate::broker) async fn admit(
        inner: &Inner,
        validated: Validated,
        trail: &mut Trail,
    ) -> Result<Admission, Refused> {
        let received = validated.authenticated().received();
        let claims = validated.authenticated().claims();
        let who = Who {
            issuer: &claims.issuer,
            subject: &claims.subject,
            client: &claims.client,
            session: claims.session_hash.as_deref(),
            tool: &received.tool,
            verb: &received.verb,
        };
        let verb = validated.verb();
        let digest = validated.digest();
        let permit = inner.limiter.admit(&who, verb, digest, Instant::now())?;
        let key = match verb.idempotency {
            Idempotency::None => None,
            Idempotency::Optional | Idempotency::Required => received.idempotency_key.as_deref(),
        };
        let claim = match key {
            None => None,
            Some(key) => {
                trail.idempotency(inner.journal.salted(key.as_bytes()));
                let who = principal(&[&claims.issuer, &claims.subject, &claims.client]);
                let claimed = inner
                    .store
                    .claim(&who, key, digest, BootTime::now())
                    .await?;
                match claimed {
                    Claim::Mine(claimed) => Some(claimed),
                    Claim::Before(reply) => {
                        let durable = verb.durable;
                        return Ok(Admission::Before { durable, reply });
                    }
                }
            }
        };
        Ok(Admission::New(Box::new(Self {
            validated,
            held: Held { permit, claim },
        })))
    }

    /// What is called.
    pub(super) fn validated(&self) -> &Validated {
        &self.validated
    }

    /// Gives up the place; what it holds is settled by whoever takes it.
    pub(super) fn into_held(self) -> Held {
        self.held
    }
}

impl Held {
    /// The worker answered: the answer is kept for the same key.
    pub(in crate::broker) async fn answered(self, reply: impl FnOnce() -> StoredReply) {
        // A tool that says no has done its part.
        self.permit.succeeded();
        if let Some(claim) = self.claim {
            kept(claim.done(reply()).await);
        }
    }

    /// Nothing ran: the key is as if it had never been used.
    pub(in crate::broker) async fn untouched(self) {
        drop(self.permit);
        if let Some(claim) = self.claim {
            kept(claim.forget().await);
        }
    }

    /// It may have run: the key never runs again.
    pub(in crate::broker) async fn unknown(self, worker_failed: bool) {
        if worker_failed {
            self.permit.failed();
        }
        if let Some(claim) = self.claim {
            kept(claim.unknown().await);
        }
    }
}

/// What can not be kept is *unknown* to the next call with the key: nothing runs twice for it.
fn kept(kept: Result<(), idempotency::Error>) {
    if let Err(error) = kept {
        tracing::error!(%error, "end of a call not kept for its idempotency key");
    }
}

/// Names joined so that no two lists have the same text.
pub(in crate::broker) fn principal(names: &[&str]) -> String {
    serde_json::Value::from(names.to_vec()).to_string()
}
