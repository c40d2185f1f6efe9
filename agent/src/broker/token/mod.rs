//! Access tokens (RFC 9068), bound to a key of their holder (RFC 7800): who asks, for which tool and
//! verbs, until when.
//!
//! A token is believed for one thing after another, cheapest refusal first: its form, its header, the
//! issuer's key, the signature by that key's own algorithm, the audience, every claim, its life, and
//! last whether it was revoked. It knows neither proofs nor tools.

mod cache;
mod claims;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

pub use claims::{ACTORS_MAX, Claims, SCOPES_MAX};
pub(in crate::broker) use claims::{is_name, is_purpose, is_scope};

use super::{
    issuer::{Issuers, Revoked},
    jose::Compact,
    reason::{Reason, Refused},
};
use crate::{clock::BootTime, config::TOKEN_LIFETIME_MAX, json};

/// Longest token, bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1_024;
/// Longest life that a configuration may give tokens.
pub const LIFETIME_MAX: Duration = TOKEN_LIFETIME_MAX;

/// Checks access tokens for one resource.
#[derive(Debug)]
pub struct Verifier {
    audience: String,
    lifetime_max: Duration,
    issuers: Arc<Issuers>,
    revoked: Arc<Revoked>,
    cache: Mutex<cache::Cache>,
}

/// What the signature has proved. Time and revocation are looked at for each use.
#[derive(Clone, Debug)]
struct Signed {
    claims: Arc<Claims>,
    /// By how much the issuer's clock may be ahead of ours.
    leeway: Duration,
    /// State of the issuers' keys under which it was checked.
    generation: u64,
    /// Until when the key is believed, if it is for a time.
    until: Option<BootTime>,
}

impl Verifier {
    /// For tokens whose audience is this resource (an absolute URI).
    #[must_use]
    pub fn new(
        audience: String,
        lifetime_max: Duration,
        issuers: Arc<Issuers>,
        revoked: Arc<Revoked>,
    ) -> Self {
        Self {
            audience,
            lifetime_max: lifetime_max.min(LIFETIME_MAX),
            issuers,
            revoked,
            cache: Mutex::default(),
        }
    }

    /// The resource.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Checks a token as it stands in a request, without its scheme.
    ///
    /// A token whose signature was good stays known for its life, as long as no issuer's keys change;
    /// its times and every revocation are looked at each time.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Claims>, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::TokenMalformed.into());
        }
        let digest = json::sha256(token.as_bytes());
        // Before any key is looked up: keys that change meanwhile make this look outdated.
        let generation = self.issuers.generation();
        let known = self.cache().get(&digest, generation);
        let known = known.filter(|signed| signed.until.is_none_or(|until| BootTime::now() < until));
        let signed = match &known {
            Some(signed) => signed.clone(),
            None => self.check_signed(token, generation, now)?,
        };
        self.check_life(&signed, now)?;
        self.revoked.check(&signed.claims, signed.leeway)?;
        let claims = Arc::clone(&signed.claims);
        if known.is_none() {
            self.cache().put(digest, signed);
        }
        Ok(claims)
    }

    /// The same, where the issuer's keys may have to be fetched first. The call waits for them, within
    /// [`fetched::WAIT_MAX`]; a refusal that could be another's later says when to come again.
    ///
    /// [`fetched::WAIT_MAX`]: super::issuer::fetched::WAIT_MAX
    pub async fn verify_patiently(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Arc<Claims>, Refused> {
        let refused = match self.verify(token, now) {
            Err(refused)
                if matches!(refused.reason, Reason::TokenKey | Reason::IssuerUnavailable) =>
            {
                refused
            }
            decided => return decided,
        };
        let Some((issuer, key_id)) = signer_of(token) else {
            return Err(refused);
        };
        match self.issuers.ask(&issuer, &key_id).await {
            None => Err(refused),
            Some(Err(refused)) => Err(refused),
            Some(Ok(())) => self.verify(token, SystemTime::now()),
        }
    }

    /// Checks that a token may be used for a tool: it names this one or none, and the tokens for this
    /// tool were not revoked since.
    pub fn check_tool(&self, claims: &Claims, tool: &str) -> Result<(), Refused> {
        if claims.tool.as_deref().is_some_and(|own| own != tool) {
            return Err(Reason::TokenTool.into());
        }
        let leeway = self.issuers.leeway(&claims.issuer);
        self.revoked.check_tool(claims, tool, leeway)
    }

    fn check_signed(
        &self,
        token: &str,
        generation: u64,
        now: SystemTime,
    ) -> Result<Signed, Refused> {
        let read = Compact::read(token, TOKEN_BYTES_MAX);
        let compact = read.map_err(|why| Refused::because(Reason::TokenMalformed, why))?;
        check_header(&compact)?;
        let key_id = claims::key_id(&compact)?;
        let issuer = claims::issuer(&compact)?;
        let found = self.issuers.key(issuer, key_id, now)?;
        // The key decides; the header may only agree.
        if compact.text("alg") != Some(found.key.algorithm().name()) {
            let why = "not the algorithm of its key";
            return Err(Refused::because(Reason::TokenAlgorithm, why));
        }
        if !found.key.has_signed(&compact) {
            return Err(Reason::TokenSignature.into());
        }
        let claims = claims::read(&compact, &self.audience)?;
        Ok(Signed {
            claims: Arc::new(claims),
            leeway: found.leeway,
            generation,
            until: found.until,
        })
    }

    fn check_life(&self, signed: &Signed, now: SystemTime) -> Result<(), Refused> {
        let Signed { claims, leeway, .. } = signed;
        match claims.expires.duration_since(claims.issued) {
            Ok(life) if life.is_zero() => {
                return Err(Refused::because(Reason::TokenClaims, "it has no life"));
            }
            Ok(life) if life <= self.lifetime_max => {}
            Ok(_) => return Err(Reason::TokenLifetime.into()),
            Err(_) => {
                let why = "it expires before it is issued";
                return Err(Refused::because(Reason::TokenClaims, why));
            }
        }
        if claims.expires <= now {
            return Err(Reason::TokenExpired.into());
        }
        let latest = now.checked_add(*leeway).unwrap_or(now);
        if claims.issued > latest || claims.not_before.is_some_and(|start| start > latest) {
            return Err(Reason::TokenNotYet.into());
        }
        Ok(())
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, cache::Cache> {
        // A panic leaves at most a missing entry.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Issuer and key that a token names, before anything is proved.
fn signer_of(token: &str) -> Option<(String, String)> {
    let compact = Compact::read(token, TOKEN_BYTES_MAX).ok()?;
    let issuer = claims::issuer(&compact).ok()?.to_owned();
    Some((issuer, claims::key_id(&compact).ok()?.to_owned()))
}

/// Type (RFC 9068, 4: `at+jwt`), and no member that would choose the key.
fn check_header(compact: &Compact<'_>) -> Result<(), Refused> {
    let refuse = |why: &str| Err(Refused::because(Reason::TokenAlgorithm, why));
    if let Some(name) = compact.refused_member(false) {
        return refuse(&format!("its header has `{name}`"));
    }
    let kind = compact.text("typ").unwrap_or_default();
    if !["at+jwt", "application/at+jwt"]
        .iter()
        .any(|name| kind.eq_ignore_ascii_case(name))
    {
        return refuse("its `typ` is not `at+jwt`");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
