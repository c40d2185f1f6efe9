//! What was done about tokens, as the journal has it.

use super::{TokenError, Tokens};
use crate::{
    audit::{
        Caller, Holder, KeyRotated, Principal, Token, TokenChange, TokenIssued, TokenRef,
        TokensRevoked, Whose,
    },
    broker::issuer::{Issued, Order, Target},
    timestamp::Timestamp,
};

impl Tokens {
    /// Before anybody has the token.
    pub(super) fn record_issue(
        &self,
        order: &Order,
        issued: &Issued,
        caller: Caller,
    ) -> Result<(), TokenError> {
        let record = TokenIssued {
            caller,
            principal: Principal {
                issuer: self.embedded.issuer().to_owned(),
                subject: order.subject.clone(),
                client: order.client.clone(),
            },
            token: TokenRef {
                id: issued.token_id.clone(),
                key: issued.key_id.clone(),
            },
            tool: order.tool.as_deref(),
            scopes: &order.scopes,
            purpose: order.purpose.as_deref(),
            expires: Timestamp::from(issued.expires),
        };
        let recorded = self.journal.token(TokenChange::Issued(&record));
        recorded.map_err(TokenError::Record)
    }

    /// Another key signs already: that is not taken back for want of a record.
    pub(super) fn record_rotation(
        &self,
        key: &str,
        forced: bool,
        caller: Caller,
    ) -> Result<(), TokenError> {
        let rotated = KeyRotated {
            caller,
            key,
            forced,
        };
        let recorded = self.journal.token(TokenChange::Rotated(&rotated));
        recorded.map_err(TokenError::Unrecorded)
    }

    /// It is in force already.
    pub(super) fn record_revocation(
        &self,
        target: &Target,
        new_key: Option<&str>,
        caller: Caller,
    ) -> Result<(), TokenError> {
        let revoked = TokensRevoked {
            caller,
            whose: whose(target),
            new_key,
        };
        let recorded = self.journal.token(TokenChange::Revoked(&revoked));
        recorded.map_err(TokenError::Unrecorded)
    }
}

fn whose(target: &Target) -> Whose<'_> {
    match target {
        Target::Token(id) => Whose::Token(Token { id }),
        Target::Subject(name) => Whose::Principal(Holder::Subject(name)),
        Target::Client(name) => Whose::Principal(Holder::Client(name)),
        Target::Tool(name) => Whose::Tool(name),
        Target::Key(id) => Whose::Key(id),
    }
}
