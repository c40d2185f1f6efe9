//! What is said over the control socket about access tokens. Closed, like everything there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::broker::issuer::{Revocation, Target};

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "token", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenRequest {
    /// A token of the embedded issuer.
    Issue {
        /// The user.
        subject: String,
        /// The caller's software.
        client: String,
        /// What it is for.
        scopes: Vec<String>,
        /// The one tool that it is for.
        tool: Option<String>,
        /// Its life; as long as the configuration lets it live where nothing is said.
        seconds: Option<u64>,
        /// Thumbprint of the holder's key, base64url.
        jkt: String,
        /// What the user wants done.
        purpose: Option<String>,
        /// Hash of the session of the caller.
        session_hash: Option<String>,
        /// SHA-256 of the canonical arguments, base64url.
        arguments_digest: Option<String>,
    },
    /// Another key for the embedded issuer.
    Rotate {
        /// Refuse the tokens of the old one from now on.
        force: bool,
    },
    /// Refuse tokens that were issued.
    Revoke {
        /// Which.
        target: Target,
    },
    /// What was revoked.
    Revocations {},
    /// The public keys of the embedded issuer.
    Keys {},
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "token", rename_all = "snake_case")]
pub enum TokenReply {
    /// A token.
    Issued(IssuedToken),
    /// The embedded issuer signs with another key.
    Rotated {
        /// Its id.
        key_id: String,
    },
    /// It is refused from now on.
    Revoked {
        /// Id of the key that took the place of a revoked one of the embedded issuer.
        new_key_id: Option<String>,
    },
    /// What was revoked.
    Revocations {
        /// By time.
        revocations: Vec<Revocation>,
    },
    /// The keys of the embedded issuer.
    Keys {
        /// Its identifier.
        issuer: String,
        /// The resource that tokens are for.
        resource: String,
        /// JWK set.
        jwks: serde_json::Value,
    },
}

/// A token; shown to whoever asked, and to nobody in a log.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedToken {
    /// The token itself.
    pub access_token: String,
    /// Its id.
    pub token_id: String,
    /// The key that signed it.
    pub key_id: String,
    /// When it expires (RFC 3339, UTC).
    pub expires: String,
    /// The resource that it is for.
    pub resource: String,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{IssuedToken, TokenRequest};

    #[test]
    fn requests_are_closed() {
        for good in [
            r#"{"token":"rotate","force":true}"#,
            r#"{"token":"revoke","target":{"kind":"subject","name":"alice"}}"#,
            r#"{"token":"keys"}"#,
        ] {
            assert!(serde_json::from_str::<TokenRequest>(good).is_ok(), "{good}");
        }
        for bad in [
            r#"{"token":"rotate"}"#,
            r#"{"token":"rotate","force":true,"x":1}"#,
            r#"{"token":"revoke","target":{"kind":"user","name":"alice"}}"#,
            r#"{"token":"issue","subject":"alice"}"#,
        ] {
            assert!(serde_json::from_str::<TokenRequest>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let issued = IssuedToken {
            access_token: "secret".to_owned(),
            token_id: "id".to_owned(),
            key_id: "key".to_owned(),
            expires: "later".to_owned(),
            resource: "https://a".to_owned(),
        };
        assert!(!format!("{issued:?}").contains("secret"));
    }
}
