//! Whether there is room for the call, and whether it was made before.

use std::time::Instant;

use super::{trail::Trail, validated::Validated};
use crate::{
    broker::{
        Inner,
        idempotency::{self, Claim, Claimed, StoredReply},
        limit::{Permit, Who},
        reason::Refused,
        worker::Blame,
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
    pub(in crate::broker) async fn untouched(self, blame: Blame) {
        leave(self.permit, blame);
        if let Some(claim) = self.claim {
            kept(claim.forget().await);
        }
    }

    /// It may have run: the key never runs again.
    pub(in crate::broker) async fn unknown(self, blame: Blame) {
        leave(self.permit, blame);
        if let Some(claim) = self.claim {
            kept(claim.unknown().await);
        }
    }
}

/// Gives the place back; what a worker is to blame for counts against its tool.
fn leave(permit: Permit, blame: Blame) {
    match blame {
        Blame::Worker => permit.failed(),
        Blame::Other => drop(permit),
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Held;
    use crate::{
        broker::{
            limit::{Limiter, Who},
            reason::Reason,
            worker::Blame,
        },
        policy::{compile_with, compiled::Verb},
    };

    const POLICY: &str = "version = 1\ntool = \"t\"\n\
        [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"json\"\n\
        [filesystem]\nexecute = [\"/usr/bin\"]\n\
        [[verb]]\nname = \"v\"\nscope = \"t:v\"\narguments = \"a.json\"\n\
        [verb.limits]\n";
    const SCHEMA: &[u8] = br#"{"type": "object", "additionalProperties": false}"#;
    const WHO: Who<'_> = Who {
        issuer: "https://issuer.example",
        subject: "alice",
        client: "client",
        session: None,
        tool: "t",
        verb: "v",
    };

    fn verb() -> Verb {
        let mut documents = |_: &str| Ok(SCHEMA.to_vec());
        let policy = compile_with("t.toml", POLICY, &mut documents);
        let policy = policy.unwrap_or_else(|error| panic!("{error}"));
        policy.verb("v").unwrap().clone()
    }

    #[tokio::test]
    async fn a_worker_that_does_not_start_counts_against_its_tool_and_a_busy_host_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let limiter = Limiter::open(&folder.path().join("quotas")).unwrap();
        let (verb, now) = (verb(), Instant::now());
        let admit = |number: u8, at| limiter.admit(&WHO, &verb, [number; 32], at);
        let held = |number, at| Held {
            permit: admit(number, at).unwrap(),
            claim: None,
        };
        for number in 0..6 {
            held(number, now).untouched(Blame::Other).await;
        }
        for number in 6..11 {
            held(number, now).untouched(Blame::Worker).await;
        }
        let refused = admit(11, now).map(drop).unwrap_err();
        assert_eq!(refused.reason, Reason::BreakerOpen);
        // After its rest one tries. Where that does not start either, no other tries after it.
        let rested = now + Duration::from_secs(15);
        held(12, rested).untouched(Blame::Worker).await;
        let refused = admit(13, rested).map(drop).unwrap_err();
        assert_eq!(refused.reason, Reason::BreakerOpen);
    }
}
