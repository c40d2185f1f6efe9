//! Proof of possession (`DPoP`, RFC 9449): whoever shows a token shows too that they hold its key, for
//! this resource, now, once.
//!
//! Two steps, each with a value that only it can make: [`Proofs::check`] finds nothing wrong and
//! remembers nothing, so that a proof that is refused later can be used again; [`Proofs::spend`] writes
//! it down, and exactly one of any number of equal ones wins.
//!
//! The nonce and the memory of what was spent go by the kernel's clock since boot, which nobody sets;
//! the wall clock only judges `iat`.

mod keys;
mod nonce;
mod replay;
mod signer;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{hmac, rand};
use serde_json::Value;

pub use replay::{PROOFS_MAX, PROOFS_OF_HOLDER_MAX};
pub use signer::{Signer, SignerError};

use super::{
    jose::{Algorithm, Compact, Malformed, Parts, PublicKey, digest_from_base64url},
    reason::{Reason, Refused},
    token::Claims,
};
use crate::{clock::BootTime, json};

/// Longest proof, bytes.
pub const PROOF_BYTES_MAX: usize = 4 * 1_024;
/// How far `iat` may be from our clock, either way.
pub const WINDOW: Duration = Duration::from_mins(1);
/// The method of every request, whatever the door.
pub const METHOD: &str = "POST";
/// Claim with the SHA-256 of the request's body.
pub const BODY_CLAIM: &str = "body_digest";
const ID_BYTES_MAX: usize = 128;

/// Checks proofs for one resource.
pub struct Proofs {
    resource: String,
    /// Made at the start of the agent, never stored: nonces and memory end with it.
    secret: hmac::Key,
    replays: Mutex<replay::Replays>,
    keys: Mutex<keys::Keys>,
    clock: fn() -> BootTime,
}

/// A proof in which nothing was wrong, not yet spent.
#[must_use]
#[derive(Debug)]
pub struct Checked {
    mark: replay::Mark,
    holder: replay::Mark,
    /// Of its nonce.
    slot: u64,
}

/// A proof that was good and that nobody can use again.
#[must_use]
#[derive(Debug)]
pub struct Spent {
    _only_from_spend: (),
}

/// No secret can be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("proofs: no random secret can be had")]
pub struct NoSecret;

impl Proofs {
    /// For proofs whose `htu` is this resource.
    pub fn new(resource: String) -> Result<Self, NoSecret> {
        Self::with_clock(resource, BootTime::now)
    }

    fn with_clock(resource: String, clock: fn() -> BootTime) -> Result<Self, NoSecret> {
        let mut secret = [0_u8; 32];
        rand::fill(&mut secret).map_err(|_unspecified| NoSecret)?;
        Ok(Self {
            resource,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            replays: Mutex::default(),
            keys: Mutex::default(),
            clock,
        })
    }

    /// The nonce that proofs must carry now; good for a minute at least, two at most.
    #[must_use]
    pub fn nonce(&self) -> String {
        nonce::make(&self.secret, nonce::slot((self.clock)()))
    }

    /// Checks a proof that came with a token. `body`: SHA-256 of the request's body.
    pub fn check(
        &self,
        proof: &str,
        token: &str,
        claims: &Claims,
        body: &[u8; 32],
        body_required: bool,
        now: SystemTime,
    ) -> Result<Checked, Refused> {
        let bad = |why: Malformed| Refused::because(Reason::ProofMalformed, why);
        let parts = Parts::split(proof, PROOF_BYTES_MAX).map_err(bad)?;
        let known = self.keys().get(parts.header);
        let (key, compact) = if let Some(key) = &known {
            (Arc::clone(key), parts.read_claims().map_err(bad)?)
        } else {
            let compact = parts.read().map_err(bad)?;
            (Arc::new(key(&compact)?), compact)
        };
        if key.thumbprint() != claims.jkt {
            return Err(Reason::ProofKey.into());
        }
        if !key.has_signed(&compact) {
            return Err(Reason::ProofSignature.into());
        }
        if known.is_none() {
            self.keys().put(parts.header, key);
        }
        let id = text(&compact, "jti")?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(malformed("`jti`"));
        }
        if text(&compact, "htm")? != METHOD || text(&compact, "htu")? != self.resource {
            return Err(Reason::ProofTarget.into());
        }
        check_token(&compact, token)?;
        check_time(&compact, now)?;
        check_body(&compact, body, body_required)?;
        let slot = self.check_nonce(&compact)?;
        Ok(Checked {
            mark: replay::mark(&self.secret, &claims.jkt, id),
            holder: replay::mark(&self.secret, &claims.jkt, ""),
            slot,
        })
    }

    /// Spends a proof: of equal ones, the first alone.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is spent can not be shown again"
    )]
    pub fn spend(&self, checked: Checked) -> Result<Spent, Refused> {
        let Checked { mark, holder, slot } = checked;
        let now = nonce::slot((self.clock)());
        if !nonce::is_fresh(slot, now) {
            // What was spent under this nonce may be forgotten by now.
            return Err(Reason::ProofNonce.into());
        }
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.spend(now, slot, mark, holder)?;
        Ok(Spent {
            _only_from_spend: (),
        })
    }

    /// Proofs that are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        let replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.len()
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, keys::Keys> {
        // A panic leaves at most a missing entry.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_nonce(&self, compact: &Compact<'_>) -> Result<u64, Refused> {
        let shown = match compact.payload.get("nonce") {
            None => return Err(Reason::ProofNonce.into()),
            Some(Value::String(shown)) => shown,
            Some(_) => return Err(malformed("`nonce`")),
        };
        let now = nonce::slot((self.clock)());
        nonce::read(&self.secret, shown, now).ok_or_else(|| Reason::ProofNonce.into())
    }
}

/// The key that the proof carries: ES256 or `EdDSA`, as the header says too.
fn key(compact: &Compact<'_>) -> Result<PublicKey, Refused> {
    if compact.text("typ") != Some("dpop+jwt") {
        return Err(malformed("its `typ` is not `dpop+jwt`"));
    }
    if let Some(name) = compact.refused_member(true) {
        return Err(malformed(format!("its header has `{name}`")));
    }
    let jwk = compact.header.get("jwk").and_then(Value::as_object);
    let jwk = jwk.ok_or_else(|| malformed("its header has no `jwk`"))?;
    let key = PublicKey::from_jwk(jwk).map_err(malformed)?;
    match key.algorithm() {
        Algorithm::Es256 | Algorithm::EdDsa => {}
        Algorithm::Rs256 | Algorithm::Ps256 => return Err(malformed("neither ES256 nor EdDSA")),
    }
    if compact.text("alg") != Some(key.algorithm().name()) {
        return Err(malformed("not the algorithm of its key"));
    }
    Ok(key)
}

/// RFC 9449, 4.2: `ath`, the SHA-256 of the token.
fn check_token(compact: &Compact<'_>, token: &str) -> Result<(), Refused> {
    let shown = digest_from_base64url(text(compact, "ath")?).ok_or_else(|| malformed("`ath`"))?;
    if shown != json::sha256(token.as_bytes()) {
        return Err(Reason::ProofToken.into());
    }
    Ok(())
}

fn check_time(compact: &Compact<'_>, now: SystemTime) -> Result<(), Refused> {
    let made = compact.payload.get("iat").and_then(Value::as_u64);
    let made = Duration::from_secs(made.ok_or_else(|| malformed("`iat`"))?);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    // `iat` has whole seconds.
    if Duration::from_secs(now.as_secs()).abs_diff(made) > WINDOW {
        return Err(Reason::ProofTime.into());
    }
    Ok(())
}

fn check_body(compact: &Compact<'_>, body: &[u8; 32], required: bool) -> Result<(), Refused> {
    let shown = match compact.payload.get(BODY_CLAIM) {
        None if required => return Err(Reason::ProofBody.into()),
        None => return Ok(()),
        Some(shown) => shown.as_str().and_then(digest_from_base64url),
    };
    let shown = shown.ok_or_else(|| malformed(format!("`{BODY_CLAIM}`")))?;
    if shown != *body {
        return Err(Reason::ProofBody.into());
    }
    Ok(())
}

fn text<'a>(compact: &'a Compact<'_>, claim: &str) -> Result<&'a str, Refused> {
    let text = compact.payload.get(claim).and_then(Value::as_str);
    text.ok_or_else(|| malformed(format!("`{claim}`")))
}

fn malformed(why: impl fmt::Display) -> Refused {
    Refused::because(Reason::ProofMalformed, why)
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
