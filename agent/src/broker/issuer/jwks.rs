//! JWK sets (RFC 7517, 5) of other issuers: each key pinned to one algorithm, found by its id.

use std::{collections::HashMap, fs::File, io::Read as _, path::Path, sync::Arc};

use serde_json::Value;

use crate::{
    broker::{
        jose::{KeyError, PublicKey, base64url},
        token::is_name,
    },
    json::{self, Limits},
};

/// Largest JWK set, bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1_024;
/// Keys of one issuer.
pub const JWKS_KEYS_MAX: usize = 64;

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct Keys(HashMap<String, Arc<PublicKey>>);

/// The bytes are no JWK set that can be trusted as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Too large.
    #[error("larger than {JWKS_BYTES_MAX} bytes")]
    Size,
    /// Not strict JSON.
    #[error("{0}")]
    Json(#[from] json::Error),
    /// No object with an array `keys` of objects.
    #[error("no JWK set: `keys` lacks or is no list of keys")]
    Shape,
    /// None, or too many.
    #[error("not 1 to {JWKS_KEYS_MAX} keys")]
    Count,
    /// A key is not accepted.
    #[error("key {number}: {why}")]
    Key {
        /// From 1.
        number: usize,
        /// Why.
        why: KeyError,
    },
    /// A key id is no name.
    #[error("key {0}: `kid` has another shape")]
    Id(usize),
    /// Two keys of one id.
    #[error("key {0}: its id was there before")]
    Twice(usize),
}

impl Keys {
    /// Reads a file that is named in the configuration.
    pub(super) fn load(issuer: &str, path: &Path) -> Result<Self, super::Error> {
        let failed = |source| super::Error::Read {
            issuer: issuer.to_owned(),
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let bound = u64::try_from(JWKS_BYTES_MAX)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let file = File::open(path).map_err(failed)?;
        file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(&bytes).map_err(|why| super::Error::Keys {
            issuer: issuer.to_owned(),
            path: path.to_owned(),
            why,
        })
    }

    /// Reads a set. A key without an id gets its thumbprint; a key for encryption is not among them;
    /// any other that is not accepted refuses the set.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > JWKS_BYTES_MAX {
            return Err(Error::Size);
        }
        let limits = Limits {
            bytes: JWKS_BYTES_MAX,
            depth: 8,
        };
        let set = json::parse(bytes, limits)?;
        let list = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(Error::Shape)?;
        if !(1..=JWKS_KEYS_MAX).contains(&list.len()) {
            return Err(Error::Count);
        }
        let mut keys = HashMap::new();
        for (number, jwk) in (1..).zip(list) {
            let jwk = jwk.as_object().ok_or(Error::Shape)?;
            if jwk.get("use").is_some_and(|usage| usage == "enc") {
                continue;
            }
            let key = PublicKey::from_jwk(jwk).map_err(|why| Error::Key { number, why })?;
            let id = match jwk.get("kid") {
                None => base64url(&key.thumbprint()),
                Some(Value::String(id)) if is_name(id) => id.clone(),
                Some(_) => return Err(Error::Id(number)),
            };
            if keys.insert(id, Arc::new(key)).is_some() {
                return Err(Error::Twice(number));
            }
        }
        if keys.is_empty() {
            return Err(Error::Count);
        }
        Ok(Self(keys))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<PublicKey>> {
        self.0.get(id).cloned()
    }
}
