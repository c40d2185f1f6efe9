//! Key pairs of our own: the embedded issuer's and those that clients prove possession with.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Map, Value, json};

use super::{Algorithm, PublicKey, base64url};
use crate::{json, secret::Secret};

/// A private key and its public one.
pub struct KeyPair {
    private: Private,
    public: PublicKey,
}

enum Private {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key can not be made or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PairError {
    /// The library can not make one.
    #[error("key: can not be made")]
    Make,
    /// Not a PKCS#8 key of P-256 or Ed25519.
    #[error("key: no PKCS#8 key of P-256 or Ed25519")]
    Read,
    /// The library does not sign.
    #[error("key: can not sign")]
    Sign,
}

impl KeyPair {
    /// Makes a P-256 key, for ES256.
    pub fn p256() -> Result<Self, PairError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::of_p256(pair.map_err(|_unspecified| PairError::Make)?)
    }

    /// Makes an Ed25519 key, for `EdDSA`.
    pub fn ed25519() -> Result<Self, PairError> {
        let pair = Ed25519KeyPair::generate().map_err(|_unspecified| PairError::Make)?;
        Self::of_ed25519(pair)
    }

    /// Reads a PKCS#8 key of either kind.
    pub fn from_pkcs8(document: &Secret<Vec<u8>>) -> Result<Self, PairError> {
        let document = document.expose();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(document) {
            return Self::of_ed25519(pair);
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document);
        Self::of_p256(pair.map_err(|_rejected| PairError::Read)?)
    }

    /// The private key, PKCS#8.
    pub fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, PairError> {
        let document = match &self.private {
            Private::P256(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Private::Ed25519(pair) => pair.to_pkcs8().map(|document| document.as_ref().to_vec()),
        };
        document
            .map(Secret::new)
            .map_err(|_unspecified| PairError::Make)
    }

    fn of_p256(pair: EcdsaKeyPair) -> Result<Self, PairError> {
        let point = pair.public_key().as_ref();
        // 4, then both coordinates (SEC 1, 2.3.3).
        let (x, y) = point
            .get(1..)
            .and_then(|point| point.split_at_checked(32))
            .ok_or(PairError::Read)?;
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)});
        Self::new(&jwk, Private::P256(pair))
    }

    fn of_ed25519(pair: Ed25519KeyPair) -> Result<Self, PairError> {
        let x = base64url(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        Self::new(&jwk, Private::Ed25519(pair))
    }

    fn new(jwk: &Value, private: Private) -> Result<Self, PairError> {
        let jwk = jwk.as_object().ok_or(PairError::Read)?;
        let public = PublicKey::from_jwk(jwk).map_err(|_not_ours| PairError::Read)?;
        Ok(Self { private, public })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs claims in the compact form. `header` gets the `alg` of this key.
    pub fn sign(
        &self,
        mut header: Map<String, Value>,
        payload: &Value,
    ) -> Result<String, PairError> {
        header.insert("alg".to_owned(), self.public.algorithm().name().into());
        let header = json::canonical(&Value::Object(header));
        let payload = json::canonical(payload);
        let input = format!("{}.{}", base64url(&header), base64url(&payload));
        let signature = self.signature(input.as_bytes())?;
        Ok(format!("{input}.{}", base64url(&signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, PairError> {
        match &self.private {
            Private::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.map(|signature| signature.as_ref().to_vec())
            }
            Private::Ed25519(pair) => pair
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec()),
        }
        .map_err(|_unspecified| PairError::Sign)
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let algorithm: Algorithm = self.public.algorithm();
        write!(f, "KeyPair({})", algorithm.name())
    }
}
