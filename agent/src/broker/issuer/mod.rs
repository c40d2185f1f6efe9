//! Whose tokens are believed: the embedded issuer, issuers whose keys lie in a file, and issuers whose
//! keys are fetched.
//!
//! It knows keys by issuer and id, and nothing of what tokens say.

mod condition;
mod embedded;
pub mod fetched;
mod jwks;
mod order;
mod revoked;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

pub use condition::Condition;
pub use embedded::{Embedded, Rotation};
pub use fetched::Fetched;
pub use jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, Keys};
pub use order::{Issued, Order};
pub use revoked::{REVOCATIONS_MAX, Revocation, Revoked, Target};

use super::{
    jose::PublicKey,
    private_file,
    reason::{Reason, Refused},
};
use crate::{clock::BootTime, shutdown::Stopping};

/// By how much the clock of another host may be ahead of ours.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(30);

/// An issuer whose keys lie in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticIssuer {
    /// Its identifier, as `iss` has it.
    pub issuer: String,
    /// Its JWK set.
    pub jwks: PathBuf,
}

/// The keys of all issuers that are trusted.
#[derive(Debug)]
pub struct Issuers {
    embedded: Option<Arc<Embedded>>,
    files: Vec<StaticIssuer>,
    read: ArcSwap<HashMap<String, Read>>,
    /// Why the file of an issuer could not be read again.
    failed: Mutex<HashMap<String, String>>,
    fetched: BTreeMap<String, Arc<Fetched>>,
    generation: AtomicU64,
}

/// Keys of a file.
#[derive(Debug)]
struct Read {
    keys: Keys,
    since: BootTime,
}

/// A key that may sign tokens.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key.
    pub key: Arc<PublicKey>,
    /// By how much the clock of its issuer may be ahead of ours.
    pub leeway: Duration,
    /// Until when it is believed; none where it is until the keys change.
    pub until: Option<BootTime>,
}

/// Keys can not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A private file can not be used.
    #[error("issuer: its file can not be used")]
    File(#[from] private_file::Error),
    /// A JWK set can not be read.
    #[error("issuer `{issuer}`: `{}` can not be read", path.display())]
    Read {
        /// The issuer.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JWK set is none, or one of its keys is not accepted.
    #[error("issuer `{issuer}`: `{}`: {why}", path.display())]
    Keys {
        /// The issuer.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: jwks::Error,
    },
    /// The authorities that may vouch for an issuer's server can not be had.
    #[error("issuer `{issuer}`: authorities `{}`: {why}\nhint: apt-get install ca-certificates, or `ca` under `[[broker.issuer]]`", path.display())]
    Authorities {
        /// The issuer.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Two issuers of one name.
    #[error("issuer `{0}`: named twice, or the name of the embedded issuer")]
    Twice(String),
    /// A file of our own does not hold what we wrote.
    #[error("`{}`: damaged: {why}\nhint: {hint}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A key can not be made or does not sign.
    #[error(transparent)]
    Pair(#[from] super::jose::PairError),
    /// What was ordered can not be a token.
    #[error("token: {0}")]
    Order(&'static str),
    /// The list of revocations is full.
    #[error(
        "revocations: {REVOCATIONS_MAX} are in force\nhint: revoke by subject, client or key, or `stockade token rotate --force`"
    )]
    Full,
}

impl Issuers {
    /// Reads every file. One that can not be used is an error: nothing is trusted by half.
    pub fn new(embedded: Option<Arc<Embedded>>, files: Vec<StaticIssuer>) -> Result<Self, Error> {
        Self::with_fetched(embedded, files, Vec::new())
    }

    /// The same, and issuers whose keys are fetched once they are [started](Self::start).
    pub fn with_fetched(
        embedded: Option<Arc<Embedded>>,
        files: Vec<StaticIssuer>,
        fetched: Vec<Fetched>,
    ) -> Result<Self, Error> {
        let mut issuers = Self {
            embedded,
            files,
            read: ArcSwap::default(),
            failed: Mutex::default(),
            fetched: BTreeMap::new(),
            generation: AtomicU64::new(0),
        };
        issuers.reload()?;
        for one in fetched {
            let name = one.issuer().to_owned();
            let known =
                issuers.embedded_named(&name).is_some() || issuers.read.load().contains_key(&name);
            if known
                || issuers
                    .fetched
                    .insert(name.clone(), Arc::new(one))
                    .is_some()
            {
                return Err(Error::Twice(name));
            }
        }
        Ok(issuers)
    }

    /// Fetches the keys of those whose keys are fetched, and goes on with it. Wants a runtime.
    pub fn start(&self, stopping: &Stopping) {
        for one in self.fetched.values() {
            tokio::spawn(Arc::clone(one).run(stopping.clone()));
        }
    }

    /// Reads the files again. On an error the keys stay as they are.
    pub fn reload(&self) -> Result<(), Error> {
        let read = self.read_all();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(all) => {
                failed.clear();
                self.read.store(Arc::new(all));
                self.generation.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            Err((issuer, error)) => {
                failed.insert(issuer, error.to_string());
                Err(error)
            }
        }
    }

    fn read_all(&self) -> Result<HashMap<String, Read>, (String, Error)> {
        let mut all = HashMap::new();
        for StaticIssuer { issuer, jwks } in &self.files {
            let since = BootTime::now();
            let keys = Keys::load(issuer, jwks).map_err(|error| (issuer.clone(), error))?;
            let own = self.embedded_named(issuer).is_some();
            if own || all.insert(issuer.clone(), Read { keys, since }).is_some() {
                return Err((issuer.clone(), Error::Twice(issuer.clone())));
            }
        }
        Ok(all)
    }

    /// Changes with every change of keys.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let own = self
            .embedded
            .as_ref()
            .map_or(0, |embedded| embedded.generation());
        let fetched = self.fetched.values().map(|one| one.generation());
        // Each only rises, so that the sum is another with each change.
        fetched.fold(
            self.generation.load(Ordering::SeqCst).wrapping_add(own),
            u64::wrapping_add,
        )
    }

    /// The key of this id, if the issuer is trusted and has it.
    pub fn key(&self, issuer: &str, key_id: &str, now: SystemTime) -> Result<Found, Refused> {
        let mut until = None;
        let key = if let Some(embedded) = self.embedded_named(issuer) {
            embedded.key(key_id, now)
        } else if let Some(read) = self.read.load().get(issuer) {
            read.keys.get(key_id)
        } else if let Some(fetched) = self.fetched.get(issuer) {
            let (key, end) = fetched.key(key_id)?;
            until = Some(end);
            Some(key)
        } else {
            return Err(Reason::TokenIssuer.into());
        };
        let key = key.ok_or(Reason::TokenKey)?;
        let leeway = self.leeway(issuer);
        Ok(Found { key, leeway, until })
    }

    /// Whether the key of this id is worth another look: where the issuer's keys are fetched, after a
    /// fetch that this may bring about. Waits no longer than [`fetched::WAIT_MAX`]. None where nothing
    /// can be done: an issuer that is not trusted is never asked for anything.
    pub async fn ask(&self, issuer: &str, key_id: &str) -> Option<Result<(), Refused>> {
        let fetched = self.fetched.get(issuer)?;
        Some(fetched.ask(key_id).await)
    }

    /// By how much the clock of an issuer may be ahead of ours: not at all where it is ours.
    #[must_use]
    pub fn leeway(&self, issuer: &str) -> Duration {
        if self.embedded_named(issuer).is_some() {
            Duration::ZERO
        } else {
            CLOCK_LEEWAY
        }
    }

    /// The issuer of our own.
    #[must_use]
    pub fn embedded(&self) -> Option<&Arc<Embedded>> {
        self.embedded.as_ref()
    }

    fn embedded_named(&self, issuer: &str) -> Option<&Arc<Embedded>> {
        self.embedded
            .as_ref()
            .filter(|embedded| embedded.issuer() == issuer)
    }
}

#[cfg(test)]
mod tests;
