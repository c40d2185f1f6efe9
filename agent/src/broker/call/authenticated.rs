//! Who calls: the peer, the token, and the proof that whoever shows the token holds its key.

use std::{sync::Arc, time::SystemTime};

use crate::{
    audit::Caller,
    broker::{
        Inner,
        call::{Credentials, Received, trail::Trail},
        proof::Spent,
        reason::{Reason, Refused},
        token::Claims,
    },
};

/// A call whose caller is known. Only [`Authenticated::check`] makes one.
#[must_use]
pub struct Authenticated {
    received: Received,
    claims: Arc<Claims>,
    _spent: Spent,
}

impl Authenticated {
    /// `body_proof`: whether the proof must be for this very body.
    pub(in crate::broker) fn check(
        inner: &Inner,
        mut received: Received,
        body_proof: bool,
        trail: &mut Trail,
    ) -> Result<Self, Refused> {
        let shown = std::mem::take(&mut received.credentials);
        let (claims, spent) = caller(
            inner,
            received.peer,
            &shown,
            &received.body_digest,
            body_proof,
            trail,
        )?;
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

    /// The request, for what changes in it: whether it is cancelled.
    pub(super) fn received_mut(&mut self) -> &mut Received {
        &mut self.received
    }
}

/// Peer, token, proof, replay: for calls and for lists.
pub(in crate::broker) fn caller(
    inner: &Inner,
    peer: Caller,
    shown: &Credentials,
    body: &[u8; 32],
    body_proof: bool,
    trail: &mut Trail,
) -> Result<(Arc<Claims>, Spent), Refused> {
    if inner.host.is_worker(peer.uid) {
        return Err(Refused::because(Reason::PeerRefused, "a worker's user"));
    }
    let now = SystemTime::now();
    let token = shown.token.as_deref().ok_or(Reason::TokenMissing)?;
    let claims = inner.verifier.verify(token, now)?;
    trail.principal(&claims);
    let proof = shown.proof.as_deref().ok_or(Reason::ProofMissing)?;
    let checked = inner
        .proofs
        .check(proof, token, &claims, body, body_proof, now)?;
    let spent = inner.proofs.spend(checked)?;
    Ok((claims, spent))
}
