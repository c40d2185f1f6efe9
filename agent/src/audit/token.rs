//! Records of what people of the host did about access tokens: issued, made another key, revoked. The
//! names of fields are those of calls, so that one question finds both.

use serde::Serialize;

use super::{
    call::{Principal, TokenRef, short_str},
    record::Caller,
};
use crate::timestamp::Timestamp;

/// What was done.
#[derive(Clone, Copy, Debug)]
pub enum TokenChange<'a> {
    /// A token was issued; recorded before anybody has it.
    Issued(&'a TokenIssued<'a>),
    /// The agent's own issuer signs with another key.
    Rotated(&'a KeyRotated<'a>),
    /// Tokens are refused from now on.
    Revoked(&'a TokensRevoked<'a>),
}

/// A token of the agent's own issuer; never the token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenIssued<'a> {
    /// The process that asked.
    pub caller: Caller,
    /// For whom.
    pub principal: Principal,
    /// Which token.
    pub token: TokenRef,
    /// The one tool that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<&'a str>,
    /// What it is for.
    pub scopes: &'a [String],
    /// What the user wants done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<&'a str>,
    /// Until when.
    pub expires: Timestamp,
}

/// Another key signs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeyRotated<'a> {
    /// The process that asked.
    pub caller: Caller,
    /// Id of the key that signs now.
    pub key: &'a str,
    /// Whether the tokens of the key before are refused.
    pub forced: bool,
}

/// Which tokens are refused.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TokensRevoked<'a> {
    /// The process that asked.
    pub caller: Caller,
    /// Those of what.
    #[serde(flatten)]
    pub whose: Whose<'a>,
    /// Id of the key that took the place of a revoked one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_key: Option<&'a str>,
}

/// Whose tokens are refused, where the record of a call has it.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose<'a> {
    /// One token's.
    Token(Token<'a>),
    /// A user's or a program's.
    Principal(Holder<'a>),
    /// A tool's.
    #[serde(serialize_with = "short_str")]
    Tool(&'a str),
    /// A key's.
    #[serde(serialize_with = "short_str")]
    Key(&'a str),
}

/// The id of a token.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Token<'a> {
    /// It.
    #[serde(serialize_with = "short_str")]
    pub id: &'a str,
}

/// A user, or a program.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder<'a> {
    /// A user.
    #[serde(serialize_with = "short_str")]
    Subject(&'a str),
    /// A program.
    #[serde(serialize_with = "short_str")]
    Client(&'a str),
}
