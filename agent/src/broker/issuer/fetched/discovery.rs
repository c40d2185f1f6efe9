//! Where an issuer says that its keys are (`OpenID` Connect Discovery 1.0, 4; RFC 8414, 3). Pure.

use serde_json::Value;

use super::error::DiscoveryError;
use crate::{
    config::{Endpoint, LoopbackHttp},
    json::{self, Limits},
};

/// Largest document, bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1_024;
const DEPTH_MAX: usize = 16;

/// The places of the document, in the order in which they are asked.
pub(super) fn places(issuer: &Endpoint) -> [Endpoint; 2] {
    let path = issuer.path();
    [
        issuer.at(format!("{path}/.well-known/openid-configuration")),
        issuer.at(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

/// The place of the keys by a document of this issuer, which must name it exactly, letter by letter, and
/// must not lead to another origin: no host is asked that nobody configured.
pub fn key_place(
    document: &[u8],
    issuer: &str,
    at: &Endpoint,
    http: LoopbackHttp,
) -> Result<Endpoint, DiscoveryError> {
    let limits = Limits {
        bytes: DOCUMENT_BYTES_MAX,
        depth: DEPTH_MAX,
    };
    let document = json::parse(document, limits)?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    if text("issuer") != Some(issuer) {
        return Err(DiscoveryError::Issuer);
    }
    let place = text("jwks_uri").and_then(|text| Endpoint::parse(text, http));
    let place = place.ok_or(DiscoveryError::Keys)?;
    if place.origin == at.origin {
        Ok(place)
    } else {
        Err(DiscoveryError::Origin)
    }
}
