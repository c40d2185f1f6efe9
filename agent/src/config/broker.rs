//! `[broker]` of the agent's configuration: what the broker is called by tokens and proofs, how long
//! tokens may live, whose keys are believed. It knows nothing of how tokens are checked.

mod calls;
mod endpoint;
mod issuer;

use std::time::Duration;

use serde::Deserialize;

pub use calls::Calls;
use calls::RawCalls;
pub(super) use calls::duration;
pub use endpoint::{Endpoint, LoopbackHttp, Origin, URL_BYTES_MAX};
pub(super) use issuer::CA_DEFAULT;
use issuer::RawIssuer;
pub use issuer::{Fetching, Issuer, KeyPlace, KeySource};

use super::{file::Error, place::Place};

/// Longest life that tokens may be given.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_mins(15);
/// Longest life of tokens where nothing is said.
pub const TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_mins(5);
/// Issuers beside the embedded one.
pub const ISSUERS_MAX: usize = 16;
/// Longest resource or issuer, bytes.
const URI_BYTES_MAX: usize = 256;

const _: () = assert!(TOKEN_LIFETIME_DEFAULT.as_secs() <= TOKEN_LIFETIME_MAX.as_secs());

/// How the broker is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The URI that tokens and proofs name it by; where nothing is said it is made of the names of
    /// host and instance.
    pub resource: Option<String>,
    /// Longest life of a token that is accepted, and of one that is issued without saying.
    pub token_lifetime_max: Duration,
    /// Issuers beside the embedded one.
    pub issuers: Vec<Issuer>,
    /// How calls are taken.
    pub calls: Calls,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            resource: None,
            token_lifetime_max: TOKEN_LIFETIME_DEFAULT,
            issuers: Vec::new(),
            calls: Calls::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBroker {
    resource: Option<toml::Spanned<String>>,
    #[serde(default)]
    token: RawToken,
    #[serde(default)]
    issuer: Vec<RawIssuer>,
    #[serde(default)]
    calls: RawCalls,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    lifetime_max: Option<toml::Spanned<String>>,
}

impl RawBroker {
    pub(super) fn check(self, place: &Place<'_>) -> Result<Broker, Error> {
        let Self {
            resource,
            token: RawToken { lifetime_max },
            issuer,
            calls,
        } = self;
        let token_lifetime_max = lifetime_max.map_or(Ok(TOKEN_LIFETIME_DEFAULT), |text| {
            lifetime(text.get_ref()).ok_or_else(|| {
                let message = format!(
                    "`{}` is no time within 1s and 15m\nhint: whole seconds or minutes, like \"5m\"",
                    text.get_ref()
                );
                place.value(&text, "broker.token.lifetime_max", message)
            })
        })?;
        let checked = resource.map(|text| uri(place, &text, "broker.resource"));
        let resource = checked.transpose()?;
        let mut issuers: Vec<Issuer> = Vec::new();
        for raw in issuer {
            let named = raw.issuer.clone();
            let fail = |message: String| Err(place.value(&named, "broker.issuer", message));
            let issuer = raw.check(place)?;
            let name = &issuer.issuer;
            if resource.is_none() {
                // The name of a host is no secret and not unique; an issuer of many hosts needs more.
                let message = "`broker.resource` lacks: tokens of this issuer could be meant for another host\nhint: `resource = \"https://…\"` under `[broker]`, one for each host";
                return fail(message.to_owned());
            }
            if issuers.iter().any(|other| other.issuer == *name) {
                return fail(format!("`{name}` is named twice"));
            }
            if issuers.len() == ISSUERS_MAX {
                return fail(format!("more than {ISSUERS_MAX} issuers"));
            }
            issuers.push(issuer);
        }
        Ok(Broker {
            resource,
            token_lifetime_max,
            issuers,
            calls: calls.check(place)?,
        })
    }
}

/// `90s` or `5m`, within the bounds.
fn lifetime(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    let seconds = match unit {
        "s" => number,
        "m" => number.checked_mul(60)?,
        _ => return None,
    };
    let lifetime = Duration::from_secs(seconds);
    (!lifetime.is_zero() && lifetime <= TOKEN_LIFETIME_MAX).then_some(lifetime)
}

/// An absolute URI as RFC 8707 wants a resource: a scheme, an authority, no query and no fragment.
fn uri(
    place: &Place<'_>,
    text: &toml::Spanned<String>,
    key: &'static str,
) -> Result<String, Error> {
    let uri = text.get_ref();
    let parts = uri.split_once("://");
    let shaped = uri.len() <= URI_BYTES_MAX
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
        && !uri.contains(['?', '#', '"', '\\'])
        && parts.is_some_and(|(scheme, rest)| {
            let named = scheme.starts_with(|first: char| first.is_ascii_lowercase());
            named
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
                && !rest.is_empty()
                && !rest.starts_with('/')
        });
    if shaped {
        return Ok(uri.clone());
    }
    let message = format!(
        "`{}` is no absolute URI without query and fragment\nhint: `https://host.example/stockade`",
        uri.escape_debug()
    );
    Err(place.value(text, key, message))
}

#[cfg(test)]
mod tests;
