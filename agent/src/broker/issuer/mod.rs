//! Whose tokens are believed: the embedded issuer, and issuers whose keys lie in a file. A further kind
//! (keys that are fetched) is one more arm of [`Issuers::key`].
//!
//! It knows keys by issuer and id, and nothing of what tokens say.

mod embedded;
mod jwks;
mod order;
mod revoked;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

pub use embedded::{Embedded, Rotation};
pub use jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, Keys};
pub use order::{Issued, Order};
pub use revoked::{REVOCATIONS_MAX, Revocation, Revoked, Target};

use super::{
    jose::PublicKey,
    private_file,
    reason::{Reason, Refused},
};

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
    read: ArcSwap<HashMap<String, Keys>>,
    generation: AtomicU64,
}

/// A key that may sign tokens.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key.
    pub key: Arc<PublicKey>,
    /// By how much the clock of its issuer may be ahead of ours.
    pub leeway: Duration,
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
        let issuers = Self {
            embedded,
            files,
            read: ArcSwap::default(),
            generation: AtomicU64::new(0),
        };
        issuers.reload()?;
        Ok(issuers)
    }

    /// Reads the files again. On an error the keys stay as they are.
    pub fn reload(&self) -> Result<(), Error> {
        let mut all = HashMap::new();
        let own = self.embedded.as_ref().map(|embedded| embedded.issuer());
        for StaticIssuer { issuer, jwks } in &self.files {
            let keys = Keys::load(issuer, jwks)?;
            if own == Some(issuer.as_str()) || all.insert(issuer.clone(), keys).is_some() {
                return Err(Error::Twice(issuer.clone()));
            }
        }
        self.read.store(Arc::new(all));
        self.generation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Changes with every change of keys.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let own = self
            .embedded
            .as_ref()
            .map_or(0, |embedded| embedded.generation());
        self.generation.load(Ordering::SeqCst).wrapping_add(own)
    }

    /// The key of this id, if the issuer is trusted and has it.
    pub fn key(&self, issuer: &str, key_id: &str, now: SystemTime) -> Result<Found, Refused> {
        let key = if let Some(embedded) = self.embedded_named(issuer) {
            embedded.key(key_id, now)
        } else if let Some(keys) = self.read.load().get(issuer) {
            keys.get(key_id)
        } else {
            return Err(Reason::TokenIssuer.into());
        };
        let key = key.ok_or(Reason::TokenKey)?;
        let leeway = self.leeway(issuer);
        Ok(Found { key, leeway })
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
