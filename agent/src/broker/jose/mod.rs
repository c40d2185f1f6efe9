//! What tokens and proofs are made of: compact signed JSON (RFC 7515), public keys (RFC 7517) with
//! their thumbprints (RFC 7638), and key pairs of our own.
//!
//! The rule of this module: a key knows its one algorithm, and a signature is checked with that,
//! whatever the header says; the header must say the same. It knows nothing of claims, time or files.

mod compact;
mod key;
mod pair;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub use compact::{Compact, Malformed, Parts};
pub use key::{KeyError, PublicKey};
pub use pair::{KeyPair, PairError};

/// The signature algorithms that are accepted (RFC 7518, RFC 8037).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits at least.
    Rs256,
    /// RSASSA-PSS with SHA-256, 2048 bits at least.
    Ps256,
}

impl Algorithm {
    /// As `alg` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    const fn primitive(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
        }
    }
}

/// Base64url without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding: one text per sequence of bytes, nothing lenient.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Reads a SHA-256 value in base64url.
#[must_use]
pub fn digest_from_base64url(text: &str) -> Option<[u8; 32]> {
    from_base64url(text)?.try_into().ok()
}

#[cfg(test)]
mod tests;
