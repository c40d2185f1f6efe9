//! The other side: a client's proof key, kept in a private file, and the proofs that it makes.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, json};
use zeroize::Zeroize as _;

use super::{BODY_CLAIM, METHOD};
use crate::{
    broker::{
        jose::{Algorithm, KeyPair, PairError, base64url},
        private_file,
    },
    json,
    secret::Secret,
};

const FILE_BYTES_MAX: usize = 16 * 1_024;
const ID_BYTES: usize = 16;
const LINE_CHARACTERS: usize = 64;
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A proof key.
#[derive(Debug)]
pub struct Signer {
    pair: KeyPair,
}

/// The proof key can not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Its file can not be used.
    #[error("proof key")]
    File(#[from] private_file::Error),
    /// There is no file.
    #[error("proof key: there is none\nhint: `stockade token key FILE` makes one")]
    Absent,
    /// The file holds something else.
    #[error("proof key: no PKCS#8 private key in PEM form")]
    Pem,
    /// The key can not be made or used.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// Only ES256 and `EdDSA` keys make proofs.
    #[error("proof key: neither ES256 nor EdDSA")]
    Algorithm,
}

impl Signer {
    /// Makes a key for ES256 or `EdDSA`.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SignerError> {
        let pair = match algorithm {
            Algorithm::Es256 => KeyPair::p256()?,
            Algorithm::EdDsa => KeyPair::ed25519()?,
            Algorithm::Rs256 | Algorithm::Ps256 => return Err(SignerError::Algorithm),
        };
        Ok(Self { pair })
    }

    /// Reads a key: PKCS#8 in PEM form, P-256 or Ed25519, in a file that is this user's alone.
    pub fn load(path: &Path) -> Result<Self, SignerError> {
        let bytes = private_file::read(path, FILE_BYTES_MAX)?.ok_or(SignerError::Absent)?;
        let text = str::from_utf8(bytes.expose()).map_err(|_binary| SignerError::Pem)?;
        let document = from_pem(text).ok_or(SignerError::Pem)?;
        let pair = KeyPair::from_pkcs8(&document)?;
        Ok(Self { pair })
    }

    /// Writes the key into a file of its own, mode 0600. What is there stays.
    pub fn save(&self, path: &Path) -> Result<(), SignerError> {
        let pem = to_pem(&self.pair.to_pkcs8()?);
        Ok(private_file::create(path, pem.expose().as_bytes())?)
    }

    /// Thumbprint of the key (RFC 7638), as `cnf.jkt` has it.
    #[must_use]
    pub fn jkt(&self) -> String {
        base64url(&self.thumbprint())
    }

    /// Thumbprint of the key.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        self.pair.public().thumbprint()
    }

    /// Makes a proof for one request. `body`: SHA-256 of its body.
    pub fn proof(
        &self,
        resource: &str,
        token: &str,
        nonce: Option<&str>,
        body: Option<&[u8; 32]>,
        now: SystemTime,
    ) -> Result<String, SignerError> {
        let mut id = [0_u8; ID_BYTES];
        rand::fill(&mut id).map_err(|_unspecified| PairError::Make)?;
        let mut header = Map::new();
        header.insert("typ".to_owned(), "dpop+jwt".into());
        header.insert("jwk".to_owned(), self.pair.public().jwk().clone());
        let mut claims = json!({
            "jti": base64url(&id),
            "htm": METHOD,
            "htu": resource,
            "iat": now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            "ath": base64url(&json::sha256(token.as_bytes())),
        });
        if let Some(members) = claims.as_object_mut() {
            if let Some(nonce) = nonce {
                members.insert("nonce".to_owned(), nonce.into());
            }
            if let Some(body) = body {
                members.insert(BODY_CLAIM.to_owned(), base64url(body).into());
            }
        }
        Ok(self.pair.sign(header, &claims)?)
    }
}

/// RFC 7468.
fn to_pem(document: &Secret<Vec<u8>>) -> Secret<String> {
    let body = Secret::new(STANDARD.encode(document.expose()));
    let mut pem = format!("{BEGIN}\n");
    let mut rest = body.expose().as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE_CHARACTERS.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(END);
    pem.push('\n');
    Secret::new(pem)
}

fn from_pem(text: &str) -> Option<Secret<Vec<u8>>> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let mut base64: String = body.split_ascii_whitespace().collect();
    let document = STANDARD.decode(&base64).ok();
    base64.zeroize();
    document.map(Secret::new)
}
