//! Who calls: the peer, the token, and the proof that whoever shows the token holds its key.

use std::{sync::Arc, time::SystemTime};

use crate::{
    audit::Caller,
    broker::{
        Inner,
        call::{Credentials, Received, trail::Trail, validated::find},
        proof::Spent,
        reason::{Reason, Refused},
        token::Claims,
    },
    policy::compiled::CompiledPolicy,
};

/// A call whose caller is known. Only [`Authenticated::check`] makes one.
#[must_use]
pub struct Authenticated {
    received: Received,
    claims: Arc<Claims>,
    _spent: Spent,
}

impl Authenticated {
    /// `policy` is the one of the tool that the call names, as it was when the call began.
    pub(in crate::broker) async fn check(
        inner: &Inner,
        mut received: Received,
        policy: Option<&CompiledPolicy>,
        trail: &mut Trail,
    ) -> Result<Self, Refused> {
        let shown = Shown {
            peer: received.peer,
            credentials: std::mem::take(&mut received.credentials),
            body: received.body_digest,
        };
        // Only a verb that the token covers may ask for more: nobody else learns that it is there.
        let body_proof = |claims: &Claims| {
            policy
                .and_then(|policy| find(policy, &received.verb, claims))
                .is_some_and(|verb| verb.body_proof)
        };
        let (claims, spent) = shown.check(inner, body_proof, trail).await?;
        Ok(Self {
            received,
            claims,
            _spent: spent,
        })
    }

    /// What the token says.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The request.
    pub(super) fn received(&self) -> &Received {
        &self.received
    }
}

/// What a request shows of its caller, for calls and for lists.
pub(in crate::broker) struct Shown {
    pub(in crate::broker) peer: Caller,
    pub(in crate::broker) credentials: Credentials,
    pub(in crate::broker) body: [u8; 32],
}

impl Shown {
    /// Peer, token, proof, replay. `body_proof`: whether the proof must be for this very body.
    pub(in crate::broker) async fn check(
        &self,
        inner: &Inner,
        body_proof: impl FnOnce(&Claims) -> bool,
        trail: &mut Trail,
    ) -> Result<(Arc<Claims>, Spent), Refused> {
        let Self {
            peer,
            credentials,
            body,
        } = self;
        if inner.host.is_worker(peer.uid) {
            return Err(Refused::because(Reason::PeerRefused, "a worker's user"));
        }
        let now = SystemTime::now();
        let token = credentials.token.as_deref().ok_or(Reason::TokenMissing)?;
        let claims = inner.verifier.verify_patiently(token, now).await?;
        trail.principal(&claims);
        let proof = credentials.proof.as_deref().ok_or(Reason::ProofMissing)?;
        let wanted = body_proof(&claims);
        // The keys may have taken a while.
        let now = SystemTime::now();
        let checked = inner
            .proofs
            .check(proof, token, &claims, body, wanted, now)?;
        let spent = inner.proofs.spend(checked)?;
        Ok((claims, spent))
    }
}
