//! The journal's key: Ed25519, made with the journal, 0600 beside it. Its public half lies there too,
//! for `verify`; who wants to notice a replaced key keeps a copy elsewhere.
//!
//! Both are one line in the form of C2SP's signed notes: `PRIVATE+KEY+name+id+base64` and
//! `name+id+base64`. This file does no I/O.

use std::fmt;

use aws_lc_rs::{
    hmac, rand,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::chain::{hash, hex};

const PRIVATE: &str = "PRIVATE+KEY+";
/// Ed25519 in signed notes.
const ALGORITHM: u8 = 1;
const KEY_BYTES: usize = 32;
/// Before the first half of the public key's hash: the name of the key and of its journal.
const NAME: &str = "stockade/journal/";

/// The private half.
pub(super) struct Key {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
    /// Salt of the hashes of guessable values; from the same secret, so that one file is enough.
    salt: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.verifier.name).finish()
    }
}

/// The public half, by which checkpoints are checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; KEY_BYTES],
}

/// The text is no key of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is no key of a journal")]
pub struct KeyError;

impl Key {
    /// A new one, with its text.
    pub(super) fn generate() -> Result<(Self, Zeroizing<String>), KeyError> {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(seed.as_mut_slice()).map_err(|_unspecified| KeyError)?;
        let key = Self::new(&seed)?;
        let mut secret = Zeroizing::new(vec![ALGORITHM]);
        secret.extend_from_slice(seed.as_slice());
        let coded = Zeroizing::new(STANDARD.encode(secret.as_slice()));
        let VerifierKey { name, id, .. } = &key.verifier;
        let text = format!("{PRIVATE}{name}+{}+{}\n", hex(id), coded.as_str());
        Ok((key, Zeroizing::new(text)))
    }

    /// Reads one.
    pub(super) fn read(text: &str) -> Result<Self, KeyError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let parts = line.strip_prefix(PRIVATE).ok_or(KeyError)?;
        let (name, id, secret) = parts_of(parts)?;
        let secret = Zeroizing::new(secret);
        let key = Self::new(&secret)?;
        if key.verifier.name == name && key.verifier.id == id {
            Ok(key)
        } else {
            Err(KeyError)
        }
    }

    fn new(seed: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_rejected| KeyError)?;
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(pair.public_key().as_ref());
        let fingerprint = hash(&public);
        let name = format!("{NAME}{}", hex(fingerprint.split_at(8).0));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let salt = hmac::sign(&secret, b"salt of the journal's hashes");
        Ok(Self {
            pair,
            verifier: VerifierKey::new(name, public),
            salt: hmac::Key::new(hmac::HMAC_SHA256, salt.as_ref()),
        })
    }

    /// The public half.
    pub(super) fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// HMAC-SHA-256 under the salt, hexadecimal.
    pub(super) fn salted(&self, bytes: &[u8]) -> String {
        hex(hmac::sign(&self.salt, bytes).as_ref())
    }
}

impl VerifierKey {
    fn new(name: String, public: [u8; KEY_BYTES]) -> Self {
        let mut named = name.clone().into_bytes();
        named.extend([b'\n', ALGORITHM]);
        named.extend(public);
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(hash(&named)) {
            *to = from;
        }
        Self { name, id, public }
    }

    /// Reads one.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let (name, id, public) = parts_of(line)?;
        let key = Self::new(name.to_owned(), public);
        if key.id == id && !name.is_empty() && !name.contains(char::is_whitespace) {
            Ok(key)
        } else {
            Err(KeyError)
        }
    }

    /// The name of the key, which is that of its journal.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Its line.
    pub(super) fn text(&self) -> String {
        let mut coded = vec![ALGORITHM];
        coded.extend(self.public);
        format!(
            "{}+{}+{}\n",
            self.name,
            hex(&self.id),
            STANDARD.encode(coded)
        )
    }

    /// Whether the signature is of this key; nothing where it is not.
    #[must_use]
    pub(super) fn check(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        key.verify(message, signature).ok()
    }
}

/// Name, id and the key's bytes.
fn parts_of(text: &str) -> Result<(&str, [u8; 4], [u8; KEY_BYTES]), KeyError> {
    // Base64 holds `+` too, so only the first two divide.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(coded)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError);
    };
    let id = u32::from_str_radix(id, 16).map_err(|_error| KeyError)?;
    let bytes = STANDARD.decode(coded).map_err(|_error| KeyError)?;
    let bytes = Zeroizing::new(bytes);
    let Some((&ALGORITHM, key)) = bytes.split_first() else {
        return Err(KeyError);
    };
    let key = <[u8; KEY_BYTES]>::try_from(key).map_err(|_error| KeyError)?;
    Ok((name, id.to_be_bytes(), key))
}
