//! The compact form `header.payload.signature`, taken apart: strict JSON in both parts, and no header
//! that points to a key or changes what is signed.

use serde_json::{Map, Value};

use super::from_base64url;
use crate::json::{self, Limits};

/// Nesting of headers and claims.
const DEPTH_MAX: usize = 8;

/// Header members that would let the sender choose the key or the meaning (RFC 7515, 4.1; RFC 7797).
const REFUSED_MEMBERS: [&str; 8] = ["crit", "jku", "x5u", "x5c", "b64", "zip", "enc", "jwk"];

/// A signed object whose signature nobody has checked yet.
#[derive(Debug)]
pub struct Compact<'a> {
    /// The protected header; empty where it is not to be read again.
    pub header: Map<String, Value>,
    /// The claims.
    pub payload: Map<String, Value>,
    pub(super) input: &'a str,
    pub(super) signature: &'a str,
}

/// Not three parts of base64url with two strict JSON objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Longer than anything that is made for this broker.
    #[error("more than {0} bytes")]
    Long(usize),
    /// Not three parts.
    #[error("not three parts")]
    Parts,
    /// A part is not base64url.
    #[error("{0}: no base64url")]
    Encoding(&'static str),
    /// A part is not strict JSON.
    #[error("{part}: {error}")]
    Json {
        /// `header` or `payload`.
        part: &'static str,
        /// Why.
        error: json::Error,
    },
    /// A part is no object.
    #[error("{0}: no object")]
    Object(&'static str),
}

/// The three parts, as they stand there.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The protected header.
    pub header: &'a str,
    payload: &'a str,
    input: &'a str,
    signature: &'a str,
    bytes_max: usize,
}

impl<'a> Parts<'a> {
    /// Takes it apart; nothing is read but the signature's form.
    pub fn split(text: &'a str, bytes_max: usize) -> Result<Self, Malformed> {
        if text.len() > bytes_max {
            return Err(Malformed::Long(bytes_max));
        }
        let (input, signature) = text.rsplit_once('.').ok_or(Malformed::Parts)?;
        let (header, payload) = input.split_once('.').ok_or(Malformed::Parts)?;
        if payload.contains('.') {
            return Err(Malformed::Parts);
        }
        if from_base64url(signature).is_none() {
            return Err(Malformed::Encoding("signature"));
        }
        Ok(Self {
            header,
            payload,
            input,
            signature,
            bytes_max,
        })
    }

    /// Reads both objects.
    pub fn read(self) -> Result<Compact<'a>, Malformed> {
        Ok(Compact {
            header: object("header", self.header, self.bytes_max)?,
            ..self.read_claims()?
        })
    }

    /// Reads the claims alone: the header is one that was read before.
    pub fn read_claims(self) -> Result<Compact<'a>, Malformed> {
        Ok(Compact {
            header: Map::new(),
            payload: object("payload", self.payload, self.bytes_max)?,
            input: self.input,
            signature: self.signature,
        })
    }
}

impl<'a> Compact<'a> {
    /// Takes it apart; nothing is checked but its form.
    pub fn read(text: &'a str, bytes_max: usize) -> Result<Self, Malformed> {
        Parts::split(text, bytes_max)?.read()
    }

    /// A text of the header.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// A header member that is never followed and so must not be there. A proof carries its key: for
    /// one, `jwk` is not among them.
    #[must_use]
    pub fn refused_member(&self, with_key: bool) -> Option<&'static str> {
        let mut refused = REFUSED_MEMBERS.into_iter();
        refused.find(|name| self.header.contains_key(*name) && !(with_key && *name == "jwk"))
    }
}

fn object(
    part: &'static str,
    text: &str,
    bytes_max: usize,
) -> Result<Map<String, Value>, Malformed> {
    let bytes = from_base64url(text).ok_or(Malformed::Encoding(part))?;
    let limits = Limits {
        bytes: bytes_max,
        depth: DEPTH_MAX,
    };
    match json::parse(&bytes, limits) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Malformed::Object(part)),
        Err(error) => Err(Malformed::Json { part, error }),
    }
}
