//! Whose calls are counted together: one fixed-size key, whatever a token says.

use sha2::{Digest as _, Sha256};

use super::Who;
use crate::policy::compiled::Subject;

/// 128 bits of a hash over everything that is counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key(pub(super) [u8; 16]);

/// What is counted: two kinds never share a key.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Rate,
    Daily,
    Running,
    Loop,
    ToolBreaker,
    UserBreaker,
}

impl Key {
    /// The calls of one subject under one limit. `limit` is the limit's own words.
    pub(super) fn of(kind: Kind, who: &Who<'_>, subject: Subject, limit: &str) -> Self {
        let tool = [who.tool, limit];
        match subject {
            Subject::Tool => Self::hash(kind, "tool", &tool),
            Subject::Verb => Self::hash(kind, "verb", &[who.tool, limit, who.verb]),
            Subject::User => {
                let parts = [who.tool, limit, who.verb, who.issuer, who.subject];
                Self::hash(kind, "user", &parts)
            }
            Subject::Client => {
                let parts = [who.tool, limit, who.verb, who.issuer, who.client];
                Self::hash(kind, "client", &parts)
            }
            Subject::Session => {
                let parts = [
                    who.tool,
                    limit,
                    who.verb,
                    who.issuer,
                    who.subject,
                    who.client,
                    who.session.unwrap_or_default(),
                ];
                Self::hash(kind, "session", &parts)
            }
        }
    }

    /// One session's calls of a tool, whatever the verb.
    pub(super) fn of_loop(who: &Who<'_>) -> Self {
        let session = who.session.unwrap_or_default();
        let parts = [who.tool, who.issuer, who.subject, who.client, session];
        Self::hash(Kind::Loop, "session", &parts)
    }

    /// A tool, for everybody.
    pub(super) fn of_tool(who: &Who<'_>) -> Self {
        Self::hash(Kind::ToolBreaker, "tool", &[who.tool])
    }

    /// A tool, for one user.
    pub(super) fn of_tool_and_user(who: &Who<'_>) -> Self {
        let parts = [who.tool, who.issuer, who.subject];
        Self::hash(Kind::UserBreaker, "user", &parts)
    }

    fn hash(kind: Kind, subject: &str, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update([kind as u8]);
        for part in std::iter::once(&subject).chain(parts) {
            // With its length, so that no two lists run into one byte string.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(hash.split_at(16).0);
        Self(key)
    }
}
