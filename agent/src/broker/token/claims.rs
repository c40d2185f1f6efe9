//! The claims of a token, read once into a form that has no doubt left. Every claim that has a meaning
//! here must have its shape, wanted or not; claims of other meaning are ignored (RFC 7519, 4).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::broker::{
    jose::{Compact, digest_from_base64url},
    reason::{Reason, Refused},
};

/// Scopes of one token.
pub const SCOPES_MAX: usize = 64;
/// Actors that a token may name, one behind the other (RFC 8693, 4.1).
pub const ACTORS_MAX: usize = 3;
/// Longest name, id or scope, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest purpose, bytes.
const PURPOSE_BYTES_MAX: usize = 512;
/// Audiences of one token.
const AUDIENCES_MAX: usize = 16;
/// Whole seconds beyond which no date is meant: the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// What a token says, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// Who issued it.
    pub issuer: String,
    /// The user.
    pub subject: String,
    /// The caller's software.
    pub client: String,
    /// Its id, unique for the issuer.
    pub token_id: String,
    /// The key that signed it.
    pub key_id: String,
    /// What it is for, such as `invoice:read`; at least one.
    pub scopes: Vec<String>,
    /// When it was issued.
    pub issued: SystemTime,
    /// Before when it is not valid, if it says so.
    pub not_before: Option<SystemTime>,
    /// From when on it is not valid any more.
    pub expires: SystemTime,
    /// Thumbprint of the key that its holder has (RFC 7638, SHA-256).
    pub jkt: [u8; 32],
    /// The one tool that it is for.
    pub tool: Option<String>,
    /// What the user wants done.
    pub purpose: Option<String>,
    /// Hash of the session of the caller.
    pub session_hash: Option<String>,
    /// Who acts for the subject, the nearest first.
    pub actors: Vec<String>,
    /// SHA-256 of the canonical arguments (RFC 8785), where it is for one call.
    pub arguments_digest: Option<[u8; 32]>,
}

impl Claims {
    /// Whether the token covers a scope.
    #[must_use]
    pub fn covers(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| own == scope)
    }
}

/// The key that the header names.
pub(super) fn key_id<'a>(compact: &'a Compact<'_>) -> Result<&'a str, Refused> {
    let id = compact.text("kid").filter(|id| is_name(id));
    id.ok_or_else(|| Refused::because(Reason::TokenKey, "its header names no key"))
}

/// The issuer as the token says it, before anything is proved.
pub(super) fn issuer<'a>(compact: &'a Compact<'_>) -> Result<&'a str, Refused> {
    name(&compact.payload, "iss")
}

/// Reads the claims of a token whose signature is good.
pub(super) fn read(compact: &Compact<'_>, audience: &str) -> Result<Claims, Refused> {
    let claims = &compact.payload;
    check_audience(claims, audience)?;
    let optional = |claim, bytes_max| match claims.get(claim) {
        None => Ok(None),
        Some(value) => named(value, claim, bytes_max).map(|text| Some(text.to_owned())),
    };
    let seconds = |claim| match claims.get(claim) {
        None => Ok(None),
        Some(value) => date(value).map(Some).ok_or_else(|| wrong(claim)),
    };
    let arguments_digest = match claims.get("args_digest") {
        None => None,
        Some(value) => Some(digest(Some(value)).ok_or_else(|| wrong("args_digest"))?),
    };
    Ok(Claims {
        issuer: name(claims, "iss")?.to_owned(),
        subject: name(claims, "sub")?.to_owned(),
        client: name(claims, "client_id")?.to_owned(),
        token_id: name(claims, "jti")?.to_owned(),
        key_id: key_id(compact)?.to_owned(),
        scopes: scopes(claims)?,
        issued: seconds("iat")?.ok_or_else(|| wrong("iat"))?,
        not_before: seconds("nbf")?,
        expires: seconds("exp")?.ok_or_else(|| wrong("exp"))?,
        jkt: holder(claims)?,
        tool: optional("tool", NAME_BYTES_MAX)?,
        purpose: optional("purpose", PURPOSE_BYTES_MAX)?,
        session_hash: optional("session_hash", NAME_BYTES_MAX)?,
        actors: actors(claims)?,
        arguments_digest,
    })
}

fn check_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), Refused> {
    let ours = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) if all.len() <= AUDIENCES_MAX => {
            if !all.iter().all(Value::is_string) {
                return Err(wrong("aud"));
            }
            all.iter().any(|one| one == audience)
        }
        _ => return Err(wrong("aud")),
    };
    if ours {
        Ok(())
    } else {
        Err(Reason::TokenAudience.into())
    }
}

/// RFC 6749, 3.3: `scope-token`s with one space between them.
fn scopes(claims: &Map<String, Value>) -> Result<Vec<String>, Refused> {
    let text = claims.get("scope").and_then(Value::as_str);
    let text = text.ok_or_else(|| wrong("scope"))?;
    let scopes: Vec<_> = text.split(' ').map(str::to_owned).collect();
    let shaped = scopes.len() <= SCOPES_MAX && scopes.iter().all(|scope| is_scope(scope));
    shaped.then_some(scopes).ok_or_else(|| wrong("scope"))
}

/// Whether this is a scope: printable ASCII but space, `"` and `\`.
pub(in crate::broker) fn is_scope(text: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(printable)
}

/// `cnf` with the holder's key, and nothing that would ask for another confirmation (RFC 9449, 6.1).
fn holder(claims: &Map<String, Value>) -> Result<[u8; 32], Refused> {
    let confirmation = claims.get("cnf").and_then(Value::as_object);
    confirmation
        .filter(|members| members.len() == 1)
        .and_then(|members| digest(members.get("jkt")))
        .ok_or_else(|| wrong("cnf"))
}

fn actors(claims: &Map<String, Value>) -> Result<Vec<String>, Refused> {
    let mut actors = Vec::new();
    let mut next = claims.get("act");
    while let Some(actor) = next {
        let actor = actor.as_object().ok_or_else(|| wrong("act"))?;
        if actors.len() == ACTORS_MAX {
            return Err(wrong("act"));
        }
        let subject = actor.get("sub").ok_or_else(|| wrong("act"))?;
        actors.push(named(subject, "act", NAME_BYTES_MAX)?.to_owned());
        next = actor.get("act");
    }
    Ok(actors)
}

/// Whole seconds since 1970 (RFC 7519, 2).
fn date(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_u64().filter(|seconds| *seconds <= SECONDS_MAX)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn digest(value: Option<&Value>) -> Option<[u8; 32]> {
    digest_from_base64url(value?.as_str()?)
}

fn name<'a>(claims: &'a Map<String, Value>, claim: &'static str) -> Result<&'a str, Refused> {
    let value = claims.get(claim).ok_or_else(|| wrong(claim))?;
    named(value, claim, NAME_BYTES_MAX)
}

fn named<'a>(value: &'a Value, claim: &'static str, bytes_max: usize) -> Result<&'a str, Refused> {
    let text = value.as_str().filter(|text| is_text(text, bytes_max));
    text.ok_or_else(|| wrong(claim))
}

/// Whether this can be a name or an id.
pub(in crate::broker) fn is_name(text: &str) -> bool {
    is_text(text, NAME_BYTES_MAX)
}

/// Whether this can be a purpose.
pub(in crate::broker) fn is_purpose(text: &str) -> bool {
    is_text(text, PURPOSE_BYTES_MAX)
}

/// Something, and nothing that moves a cursor: these texts are recorded and shown.
fn is_text(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

fn wrong(claim: &'static str) -> Refused {
    Refused::because(Reason::TokenClaims, format!("`{claim}`"))
}
