//! What is asked of the embedded issuer, and what it hands out. The shape of every claim is checked by
//! the same functions that read tokens, so that it never signs what the verifier would refuse.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::Error;
use crate::{
    broker::{
        jose::base64url,
        token::{LIFETIME_MAX, SCOPES_MAX, is_name, is_purpose, is_scope},
    },
    secret::Secret,
};

/// What a token is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The user.
    pub subject: String,
    /// The caller's software.
    pub client: String,
    /// What it is for; at least one.
    pub scopes: Vec<String>,
    /// The one tool that it is for.
    pub tool: Option<String>,
    /// How long it lives; whole seconds.
    pub lifetime: Duration,
    /// Thumbprint of the holder's key.
    pub jkt: [u8; 32],
    /// What the user wants done.
    pub purpose: Option<String>,
    /// Hash of the session of the caller.
    pub session_hash: Option<String>,
    /// SHA-256 of the canonical arguments, for one call.
    pub arguments_digest: Option<[u8; 32]>,
}

/// A token.
#[derive(Debug)]
pub struct Issued {
    /// The token itself.
    pub token: Secret<String>,
    /// Its id.
    pub token_id: String,
    /// The key that signed it.
    pub key_id: String,
    /// When it expires.
    pub expires: SystemTime,
}

impl Order {
    /// The claims, without those that the issuer gives.
    pub(super) fn claims(&self, issued: u64) -> Result<(Map<String, Value>, SystemTime), Error> {
        let Self {
            subject,
            client,
            scopes,
            tool,
            lifetime,
            jkt,
            purpose,
            session_hash,
            arguments_digest,
        } = self;
        let needs = |holds: bool, what| {
            if holds {
                Ok(())
            } else {
                Err(Error::Order(what))
            }
        };
        needs(is_name(subject), "the subject is no name")?;
        needs(is_name(client), "the client is no name")?;
        let shaped = scopes.iter().all(|scope| is_scope(scope));
        needs(
            shaped && !scopes.is_empty(),
            "a scope is none, or there is none",
        )?;
        needs(scopes.len() <= SCOPES_MAX, "there are too many scopes")?;
        needs(tool.as_deref().is_none_or(is_name), "the tool is no name")?;
        needs(
            purpose.as_deref().is_none_or(is_purpose),
            "the purpose is too long or no text",
        )?;
        needs(
            session_hash.as_deref().is_none_or(is_name),
            "the session hash is no name",
        )?;
        let lasts = (Duration::from_secs(1)..=LIFETIME_MAX).contains(lifetime);
        needs(lasts, "its life is not within a second and 15 minutes")?;
        let expires = issued.saturating_add(lifetime.as_secs());
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("sub", subject.as_str().into());
        put("client_id", client.as_str().into());
        put("scope", scopes.join(" ").into());
        put("iat", issued.into());
        put("exp", expires.into());
        put("cnf", serde_json::json!({"jkt": base64url(jkt)}));
        let optional = [
            ("tool", tool),
            ("purpose", purpose),
            ("session_hash", session_hash),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                put(name, text.as_str().into());
            }
        }
        if let Some(digest) = arguments_digest {
            put("args_digest", base64url(digest).into());
        }
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(expires));
        Ok((claims, expires.ok_or(Error::Order("it never expires"))?))
    }
}
