//! What was revoked: in force before it is written, on the disk before it is confirmed, and kept for
//! longer than any token lives.
//!
//! A token id or key id is revoked for good. A subject, client or tool is cut off: every token that was
//! issued until then is refused, later ones are not.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::broker::{
    private_file,
    reason::{Reason, Refused},
    token::{Claims, LIFETIME_MAX, is_name},
};

/// Revocations in force at once.
pub const REVOCATIONS_MAX: usize = 16_384;
/// How long a revocation is kept (that of a key: for ever). Far beyond the life of tokens, because a
/// clock may be set back.
pub(super) const KEPT: Duration = Duration::from_hours(24);
const FILE_BYTES_MAX: usize = 8 << 20;
const FILE_VERSION: u32 = 1;

const _: () = assert!(KEPT.as_secs() > 4 * LIFETIME_MAX.as_secs());

/// What is revoked.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Target {
    /// The token of this id, of whatever issuer.
    Token(String),
    /// Tokens of this user.
    Subject(String),
    /// Tokens of this software.
    Client(String),
    /// Tokens for this tool.
    Tool(String),
    /// Tokens that this key signed.
    Key(String),
}

/// One revocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// What.
    #[serde(flatten)]
    pub target: Target,
    /// Since when, seconds since 1970.
    pub at: u64,
}

/// All revocations.
#[derive(Debug)]
pub struct Revoked {
    file: PathBuf,
    table: RwLock<Table>,
    /// Held while the file is written, so that no older state overtakes a newer one.
    writing: Mutex<()>,
}

/// When each was revoked, seconds since 1970.
#[derive(Debug, Default)]
struct Table {
    tokens: HashMap<String, u64>,
    subjects: HashMap<String, u64>,
    clients: HashMap<String, u64>,
    tools: HashMap<String, u64>,
    keys: HashMap<String, u64>,
}

/// The names of one kind, and how a name becomes what was revoked.
type Kind<'a> = (&'a HashMap<String, u64>, fn(String) -> Target);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    version: u32,
    revoked: Vec<Revocation>,
}

impl Revoked {
    /// Opens the list. A file that is damaged is an error: what it revoked must not come back to life.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let damaged = |why| Error::Damaged {
            path: file.to_owned(),
            why,
            hint: "`stockade token rotate --force` and the keys of other issuers first; then move it away",
        };
        let mut table = Table::default();
        if let Some(bytes) = private_file::read(file, FILE_BYTES_MAX)? {
            let raw: RawFile = serde_json::from_slice(bytes.expose())
                .map_err(|_not_ours| damaged("not a list of revocations"))?;
            if raw.version != FILE_VERSION {
                return Err(damaged("of another version"));
            }
            for Revocation { target, at } in raw.revoked {
                table.put(&target, at);
            }
        }
        Ok(Self {
            file: file.to_owned(),
            table: RwLock::new(table),
            writing: Mutex::new(()),
        })
    }

    /// Revokes. In force for every check that begins after it was called; on the disk when it returns
    /// `Ok`. Where it can not be written it is in force until the agent ends.
    pub fn revoke(&self, target: &Target, now: SystemTime) -> Result<(), Error> {
        if !is_name(target.name()) {
            return Err(Error::Order("what is revoked is no name"));
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A panic of another writer leaves the table as it was put in force: true.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let all = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            table.forget(now.saturating_sub(KEPT.as_secs()));
            if !table.holds(target) && table.len() >= REVOCATIONS_MAX {
                return Err(Error::Full);
            }
            table.put(target, now);
            table.all()
        };
        let raw = RawFile {
            version: FILE_VERSION,
            revoked: all,
        };
        let bytes = serde_json::to_vec(&raw).map_err(|_infallible| Error::Order("no JSON"))?;
        Ok(private_file::replace(&self.file, &bytes)?)
    }

    /// Refuses a token that was revoked. `leeway`: by how much its issuer's clock may be ahead.
    pub fn check(&self, claims: &Claims, leeway: Duration) -> Result<(), Refused> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let cut = |at: Option<&u64>| at.is_some_and(|at| *at >= issued(claims, leeway));
        let revoked = table.tokens.contains_key(&claims.token_id)
            || table.keys.contains_key(&claims.key_id)
            || cut(table.subjects.get(&claims.subject))
            || cut(table.clients.get(&claims.client))
            || claims
                .tool
                .as_ref()
                .is_some_and(|tool| cut(table.tools.get(tool)));
        if revoked {
            return Err(Reason::TokenRevoked.into());
        }
        Ok(())
    }

    /// Refuses a token for a tool whose tokens were revoked, where the token names none itself.
    pub fn check_tool(&self, claims: &Claims, tool: &str, leeway: Duration) -> Result<(), Refused> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let at = table.tools.get(tool);
        if at.is_some_and(|at| *at >= issued(claims, leeway)) {
            return Err(Reason::TokenRevoked.into());
        }
        Ok(())
    }

    /// Everything that is revoked.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.all()
    }

    /// How many revocations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The earliest second, by our clock, in which the token may have been issued.
fn issued(claims: &Claims, leeway: Duration) -> u64 {
    let issued = claims.issued.duration_since(UNIX_EPOCH).unwrap_or_default();
    issued.saturating_sub(leeway).as_secs()
}

impl Target {
    /// The name of what is revoked.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Token(name)
            | Self::Subject(name)
            | Self::Client(name)
            | Self::Tool(name)
            | Self::Key(name) => name,
        }
    }
}

impl Table {
    fn of(&self, target: &Target) -> &HashMap<String, u64> {
        match target {
            Target::Token(_) => &self.tokens,
            Target::Subject(_) => &self.subjects,
            Target::Client(_) => &self.clients,
            Target::Tool(_) => &self.tools,
            Target::Key(_) => &self.keys,
        }
    }

    fn holds(&self, target: &Target) -> bool {
        self.of(target).contains_key(target.name())
    }

    /// Never moves a cut back: a clock that was set back must not revive what was revoked.
    fn put(&mut self, target: &Target, at: u64) {
        let table = match target {
            Target::Token(_) => &mut self.tokens,
            Target::Subject(_) => &mut self.subjects,
            Target::Client(_) => &mut self.clients,
            Target::Tool(_) => &mut self.tools,
            Target::Key(_) => &mut self.keys,
        };
        let entry = table.entry(target.name().to_owned()).or_insert(at);
        *entry = (*entry).max(at);
    }

    /// Drops what no living token can be met by. Keys stay: they could sign again.
    fn forget(&mut self, before: u64) {
        let tables = [
            &mut self.tokens,
            &mut self.subjects,
            &mut self.clients,
            &mut self.tools,
        ];
        for table in tables {
            table.retain(|_, at| *at >= before);
        }
    }

    fn len(&self) -> usize {
        let Self {
            tokens,
            subjects,
            clients,
            tools,
            keys,
        } = self;
        [tokens, subjects, clients, tools, keys]
            .map(HashMap::len)
            .iter()
            .sum()
    }

    fn all(&self) -> Vec<Revocation> {
        let kinds: [Kind<'_>; 5] = [
            (&self.tokens, Target::Token),
            (&self.subjects, Target::Subject),
            (&self.clients, Target::Client),
            (&self.tools, Target::Tool),
            (&self.keys, Target::Key),
        ];
        let mut all: Vec<_> = kinds
            .into_iter()
            .flat_map(|(table, target)| {
                table.iter().map(move |(name, at)| Revocation {
                    target: target(name.clone()),
                    at: *at,
                })
            })
            .collect();
        all.sort_by(|one, other| (one.at, one.target.name()).cmp(&(other.at, other.target.name())));
        all
    }
}
