//! What is called: the tool runs, the token covers the verb, the arguments fit its schema.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{authenticated::Authenticated, trail::Trail};
use crate::{
    broker::{
        Inner,
        reason::{Reason, Refused},
        token::Claims,
    },
    json,
    policy::compiled::{CompiledPolicy, Idempotency, Verb},
};

/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// A call that is meaningful and covered. Only [`Validated::check`] makes one.
#[must_use]
pub struct Validated {
    authenticated: Authenticated,
    policy: Arc<CompiledPolicy>,
    verb: Verb,
    digest: [u8; 32],
}

/// A call that is not; `places` for arguments that do not fit.
pub(in crate::broker) struct Invalid {
    pub(in crate::broker) refused: Refused,
    pub(in crate::broker) places: Vec<(String, String)>,
}

impl Validated {
    /// `policy` is the one of the tool that the call names, as it was when the call began.
    pub(in crate::broker) fn check(
        inner: &Inner,
        authenticated: Authenticated,
        policy: Option<Arc<CompiledPolicy>>,
        trail: &mut Trail,
    ) -> Result<Self, Invalid> {
        let received = authenticated.received();
        let claims = authenticated.claims();
        covers_tool(claims, &received.tool)?;
        let found = policy.and_then(|policy| {
            let verb = find(&policy, &received.verb, claims)?.clone();
            Some((policy, verb))
        });
        let Some((policy, verb)) = found else {
            return Err(Refused::from(Reason::UnknownOrForbidden).into());
        };
        trail.verb(&policy, &verb);
        let leeway = inner.issuers.leeway(&claims.issuer);
        inner.revoked.check_tool(claims, &received.tool, leeway)?;
        if inner.switches.is_off(&received.tool) {
            return Err(Refused::from(Reason::Killed).into());
        }
        if let Some(why) = &verb.quarantine {
            return Err(Refused::because(Reason::Quarantined, why).into());
        }
        let arguments = json::digest(&received.arguments);
        trail.arguments(inner.journal.salted(&arguments));
        if claims
            .arguments_digest
            .is_some_and(|bound| bound != arguments)
        {
            return Err(Refused::from(Reason::TokenArguments).into());
        }
        if let Err(places) = verb.arguments.check(&received.arguments) {
            return Err(Invalid {
                refused: Reason::ArgumentsRefused.into(),
                places: places
                    .into_iter()
                    .map(|place| (place.pointer, place.rule))
                    .collect(),
            });
        }
        key_shape(&verb, received.idempotency_key.as_deref())?;
        let digest = call_digest(&received.tool, &received.verb, &arguments);
        Ok(Self {
            authenticated,
            policy,
            verb,
            digest,
        })
    }

    /// Who and with what.
    pub(super) fn authenticated(&self) -> &Authenticated {
        &self.authenticated
    }

    /// The policy of this call, from its beginning to its end.
    pub(super) fn policy(&self) -> &Arc<CompiledPolicy> {
        &self.policy
    }

    /// The verb.
    pub(super) fn verb(&self) -> &Verb {
        &self.verb
    }

    /// SHA-256 over tool, verb and arguments: equal for equal calls.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// The verb of this name, if the token's scopes cover it.
pub(in crate::broker) fn find<'a>(
    policy: &'a CompiledPolicy,
    name: &str,
    claims: &Claims,
) -> Option<&'a Verb> {
    let named = policy.verb(name);
    named.filter(|verb| claims.covers(&verb.scope))
}

/// Whether the token is for this tool, or for any.
pub(in crate::broker) fn covers_tool(claims: &Claims, tool: &str) -> Result<(), Refused> {
    match &claims.tool {
        Some(bound) if bound != tool => Err(Reason::TokenTool.into()),
        Some(_) | None => Ok(()),
    }
}

fn key_shape(verb: &Verb, key: Option<&str>) -> Result<(), Refused> {
    match key {
        None if verb.idempotency == Idempotency::Required => Err(Reason::IdempotencyMissing.into()),
        // A key that protects from nothing is not taken silently.
        Some(_) if verb.idempotency == Idempotency::None => {
            let detail = "the operation takes no key";
            Err(Refused::because(Reason::IdempotencyMalformed, detail))
        }
        Some(key)
            if key.is_empty()
                || key.len() > KEY_BYTES_MAX
                || !key.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Err(Reason::IdempotencyMalformed.into())
        }
        Some(_) | None => Ok(()),
    }
}

fn call_digest(tool: &str, verb: &str, arguments: &[u8; 32]) -> [u8; 32] {
    let mut digest = Sha256::new();
    // Names hold no zero byte, so no two calls have the same form.
    for name in [tool, verb] {
        digest.update(name.as_bytes());
        digest.update([0]);
    }
    digest.update(arguments);
    digest.finalize().into()
}

impl From<Refused> for Invalid {
    fn from(refused: Refused) -> Self {
        Self {
            refused,
            places: Vec::new(),
        }
    }
}
