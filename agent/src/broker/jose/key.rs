//! Public keys: read from JWKs, each pinned to one algorithm, with the thumbprint that names it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value, json};

use super::{Algorithm, Compact, base64url, from_base64url};
use crate::json;

/// Least size of an RSA modulus, bits.
const RSA_BITS_MIN: usize = 2_048;
/// Largest size of an RSA modulus, bytes: what one check may cost.
const RSA_BYTES_MAX: usize = 1_024;
/// Largest RSA exponent, bytes.
const RSA_EXPONENT_BYTES_MAX: usize = 4;
const COORDINATE_BYTES: usize = 32;

/// Members that only private and secret keys have (RFC 7518, 6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Ed25519 points of small order, in every encoding, without the sign bit: for these anybody can make
/// signatures. (RFC 8032 does not forbid them; the list is that of "Taming the many `EdDSAs`", 2020.)
pub(super) const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// A public key and its one algorithm.
#[derive(Clone, Debug)]
pub struct PublicKey {
    algorithm: Algorithm,
    key: Checking,
    /// The required members alone (RFC 7638, 3.2).
    required: Value,
    thumbprint: [u8; 32],
}

/// What checks a signature.
#[derive(Clone, Debug)]
enum Checking {
    /// A point of a curve: read once, not for each signature.
    Point(ParsedPublicKey),
    Rsa(DecodingKey),
}

/// The JWK is none that is accepted. Never holds anything of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// It holds a private or symmetric key.
    #[error("key: a private or secret key where a public one belongs")]
    Private,
    /// Its type or curve is none of P-256, Ed25519 and RSA.
    #[error("key: neither P-256 nor Ed25519 nor RSA")]
    Kind,
    /// `alg` is not an algorithm of such a key.
    #[error("key: `alg` is not accepted for a key of this kind")]
    Algorithm,
    /// `use` or `key_ops` say that it is for something else.
    #[error("key: not for signatures")]
    Use,
    /// A member lacks or has another shape.
    #[error("key: `{0}` lacks or has another shape")]
    Member(&'static str),
    /// The numbers are no key: off the curve, of small order, an even exponent.
    #[error("key: no valid key")]
    Invalid,
    /// RSA below 2048 or above 8192 bits.
    #[error("key: RSA with fewer than 2048 or more than 8192 bits")]
    Size,
}

impl PublicKey {
    /// Reads a JWK (RFC 7517). An RSA key without `alg` is pinned to RS256.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(KeyError::Private);
        }
        let usable = jwk.get("use").is_none_or(|usage| usage == "sig")
            && jwk.get("key_ops").is_none_or(|operations| {
                let operations = operations.as_array();
                operations.is_some_and(|all| all.iter().any(|one| one == "verify"))
            });
        if !usable {
            return Err(KeyError::Use);
        }
        match text(jwk, "kty")? {
            "EC" => Self::p256(jwk),
            "OKP" => Self::ed25519(jwk),
            "RSA" => Self::rsa(jwk),
            _ => Err(KeyError::Kind),
        }
    }

    fn p256(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if text(jwk, "crv")? != "P-256" {
            return Err(KeyError::Kind);
        }
        let algorithm = pinned(jwk, &[Algorithm::Es256])?;
        let (x, y) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
        let point = [&[4_u8][..], &x, &y].concat();
        // Refuses what is not on the curve.
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
        let key = key.map_err(|_rejected| KeyError::Invalid)?;
        let required = json!({"crv": "P-256", "kty": "EC", "x": base64url(&x), "y": base64url(&y)});
        Ok(Self::new(algorithm, Checking::Point(key), required))
    }

    fn ed25519(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if text(jwk, "crv")? != "Ed25519" {
            return Err(KeyError::Kind);
        }
        let algorithm = pinned(jwk, &[Algorithm::EdDsa])?;
        let x = coordinate(jwk, "x")?;
        let key = ParsedPublicKey::new(&ED25519, x);
        let key = key.map_err(|_rejected| KeyError::Invalid)?;
        if is_of_small_order(&x) {
            return Err(KeyError::Invalid);
        }
        let required = json!({"crv": "Ed25519", "kty": "OKP", "x": base64url(&x)});
        Ok(Self::new(algorithm, Checking::Point(key), required))
    }

    fn rsa(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        let algorithm = pinned(jwk, &[Algorithm::Rs256, Algorithm::Ps256])?;
        let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
        let bits = n.first().map_or(0, |first| {
            n.len()
                .saturating_mul(8)
                .saturating_sub(first.leading_zeros() as usize)
        });
        if bits < RSA_BITS_MIN || n.len() > RSA_BYTES_MAX {
            return Err(KeyError::Size);
        }
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if !odd(&n) || !odd(&e) || e == [1] || e.len() > RSA_EXPONENT_BYTES_MAX {
            return Err(KeyError::Invalid);
        }
        let required = json!({"e": base64url(&e), "kty": "RSA", "n": base64url(&n)});
        let key = Checking::Rsa(DecodingKey::from_rsa_raw_components(&n, &e));
        Ok(Self::new(algorithm, key, required))
    }

    fn new(algorithm: Algorithm, key: Checking, required: Value) -> Self {
        let thumbprint = json::digest(&required);
        Self {
            algorithm,
            key,
            required,
            thumbprint,
        }
    }

    /// Its one algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// SHA-256 thumbprint (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    /// The JWK, with its required members alone.
    #[must_use]
    pub fn jwk(&self) -> &Value {
        &self.required
    }

    /// Whether the signature is this key's, by its own algorithm.
    #[must_use]
    pub fn has_signed(&self, signed: &Compact<'_>) -> bool {
        self.has_signed_bytes(signed.input.as_bytes(), signed.signature)
    }

    /// The same of any bytes. The signature is base64url.
    pub(super) fn has_signed_bytes(&self, message: &[u8], signature: &str) -> bool {
        match &self.key {
            Checking::Point(key) => from_base64url(signature)
                .is_some_and(|signature| key.verify_sig(message, &signature).is_ok()),
            Checking::Rsa(key) => {
                let primitive = self.algorithm.primitive();
                jsonwebtoken::crypto::verify(signature, message, key, primitive).unwrap_or(false)
            }
        }
    }
}

/// The key's algorithm: the one that it names, which must be one of these, or the first of these.
fn pinned(jwk: &Map<String, Value>, accepted: &[Algorithm]) -> Result<Algorithm, KeyError> {
    let mut all = accepted.iter().copied();
    let found = match jwk.get("alg") {
        None => all.next(),
        Some(named) => all.find(|algorithm| named == algorithm.name()),
    };
    found.ok_or(KeyError::Algorithm)
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, KeyError> {
    let text = jwk.get(name).and_then(Value::as_str);
    text.ok_or(KeyError::Member(name))
}

fn coordinate(
    jwk: &Map<String, Value>,
    name: &'static str,
) -> Result<[u8; COORDINATE_BYTES], KeyError> {
    from_base64url(text(jwk, name)?)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeyError::Member(name))
}

/// A positive number without leading zeros (RFC 7518, 2: `Base64urlUInt`).
fn number(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, KeyError> {
    from_base64url(text(jwk, name)?)
        .filter(|bytes| bytes.first().is_some_and(|first| *first != 0))
        .ok_or(KeyError::Member(name))
}

fn is_of_small_order(point: &[u8; COORDINATE_BYTES]) -> bool {
    let mut unsigned = *point;
    if let Some(last) = unsigned.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER.iter().any(|hex| {
        let mut pairs = hex.as_bytes().chunks(2).zip(unsigned);
        pairs.all(|(pair, byte)| {
            let pair = str::from_utf8(pair).ok();
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) == Some(byte)
        })
    })
}
