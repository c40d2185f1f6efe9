//! The issuer of our own: one Ed25519 key at a time, in a private file of the instance's state folder.
//!
//! A key signs for a day at most. When another takes its place, its private half is gone at once; its
//! public half is believed for as long as its last token may live, unless the rotation was forced.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Error, Issued, Order};
use crate::{
    broker::{
        jose::{KeyPair, PairError, PublicKey, base64url, from_base64url},
        private_file,
        token::LIFETIME_MAX,
    },
    secret::Secret,
};

/// How long one key signs.
pub(super) const KEY_LIFE: Duration = Duration::from_hours(24);
/// Earlier keys that are still believed; of more, the oldest goes early.
const RETIRED_MAX: usize = 16;
const FILE_BYTES_MAX: usize = 64 * 1_024;
const FILE_VERSION: u32 = 1;
const TOKEN_ID_BYTES: usize = 16;

/// What becomes of the tokens of the key that goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// They live to their end.
    Graceful,
    /// They are refused from now on.
    Forced,
}

/// The embedded issuer.
#[derive(Debug)]
pub struct Embedded {
    issuer: String,
    audience: String,
    file: PathBuf,
    signing: Mutex<Signing>,
    /// What verifiers see; always replaced as a whole.
    public: ArcSwap<Vec<Public>>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Signing {
    pair: KeyPair,
    /// Seconds since 1970.
    since: u64,
    retired: Vec<Public>,
}

/// A key that may have signed tokens which are alive.
#[derive(Clone, Debug)]
struct Public {
    id: String,
    key: Arc<PublicKey>,
    /// Seconds since 1970; none for the key that signs now.
    until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawState {
    version: u32,
    /// PKCS#8, base64url.
    key: String,
    since: u64,
    retired: Vec<RawRetired>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRetired {
    jwk: Map<String, Value>,
    until: u64,
}

impl Embedded {
    /// Opens the issuer of this name, for tokens of this audience; makes its first key.
    pub fn open(
        file: &Path,
        issuer: String,
        audience: String,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let signing = if let Some(bytes) = private_file::read(file, FILE_BYTES_MAX)? {
            Signing::read(&bytes).ok_or_else(|| Error::Damaged {
                path: file.to_owned(),
                why: "not a state of the embedded issuer",
                hint: "move it away: the next start makes a new key, and tokens of the old one end",
            })?
        } else {
            let signing = Signing::first(now)?;
            signing.write(file)?;
            signing
        };
        let public = ArcSwap::from_pointee(signing.public());
        Ok(Self {
            issuer,
            audience,
            file: file.to_owned(),
            signing: Mutex::new(signing),
            public,
            generation: AtomicU64::new(0),
        })
    }

    /// Its identifier, as `iss` has it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Changes with every change of keys.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The key of this id, if its tokens may be alive.
    #[must_use]
    pub fn key(&self, id: &str, now: SystemTime) -> Option<Arc<PublicKey>> {
        let now = seconds(now);
        let all = self.public.load();
        let found = all.iter().find(|public| public.id == id)?;
        found
            .until
            .is_none_or(|until| now < until)
            .then(|| Arc::clone(&found.key))
    }

    /// How many keys have tokens that may be alive.
    #[must_use]
    pub(super) fn believed(&self, now: SystemTime) -> usize {
        let now = seconds(now);
        let all = self.public.load();
        let alive = all
            .iter()
            .filter(|public| public.until.is_none_or(|until| now < until));
        alive.count()
    }

    /// Makes a token. A key that has signed for its time is replaced first.
    pub fn issue(&self, order: &Order, now: SystemTime) -> Result<Issued, Error> {
        let mut signing = self.signing();
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(signing.since));
        let age = since.and_then(|since| now.duration_since(since).ok());
        if age.is_some_and(|age| age >= KEY_LIFE) {
            self.replace(&mut signing, Rotation::Graceful, now)?;
        }
        let (mut claims, expires) = order.claims(seconds(now))?;
        let mut token_id = [0_u8; TOKEN_ID_BYTES];
        rand::fill(&mut token_id).map_err(|_unspecified| PairError::Make)?;
        let token_id = base64url(&token_id);
        let key_id = signing.id();
        claims.insert("iss".to_owned(), self.issuer.as_str().into());
        claims.insert("aud".to_owned(), self.audience.as_str().into());
        claims.insert("jti".to_owned(), token_id.as_str().into());
        let mut header = Map::new();
        header.insert("typ".to_owned(), "at+jwt".into());
        header.insert("kid".to_owned(), key_id.as_str().into());
        let token = signing.pair.sign(header, &Value::Object(claims))?;
        Ok(Issued {
            token: Secret::new(token),
            token_id,
            key_id,
            expires,
        })
    }

    /// Puts a new key in the place of the one that signs, and tells its id. On the disk and in force
    /// when it returns.
    pub fn rotate(&self, rotation: Rotation, now: SystemTime) -> Result<String, Error> {
        let mut signing = self.signing();
        self.replace(&mut signing, rotation, now)?;
        Ok(signing.id())
    }

    /// Id of the key that signs now.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.signing().id()
    }

    /// The public keys that are believed, as a JWK set.
    #[must_use]
    pub fn jwks(&self, now: SystemTime) -> Value {
        let now = seconds(now);
        let all = self.public.load();
        let alive = all
            .iter()
            .filter(|public| public.until.is_none_or(|until| now < until));
        let keys: Vec<Value> = alive
            .map(|public| {
                let mut jwk = public.key.jwk().clone();
                if let Some(members) = jwk.as_object_mut() {
                    members.insert("kid".to_owned(), public.id.as_str().into());
                    members.insert("alg".to_owned(), public.key.algorithm().name().into());
                    members.insert("use".to_owned(), "sig".into());
                }
                jwk
            })
            .collect();
        json!({ "keys": keys })
    }

    fn replace(
        &self,
        signing: &mut Signing,
        rotation: Rotation,
        now: SystemTime,
    ) -> Result<(), Error> {
        let next = signing.after(rotation, now)?;
        // A key that is not on the disk would sign tokens that nobody knows after a restart.
        next.write(&self.file)?;
        self.public.store(Arc::new(next.public()));
        self.generation.fetch_add(1, Ordering::SeqCst);
        *signing = next;
        Ok(())
    }

    fn signing(&self) -> MutexGuard<'_, Signing> {
        // It is replaced as a whole, so a panic leaves the old one or the new one.
        self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signing {
    fn first(now: SystemTime) -> Result<Self, Error> {
        Ok(Self {
            pair: KeyPair::ed25519()?,
            since: seconds(now),
            retired: Vec::new(),
        })
    }

    fn after(&self, rotation: Rotation, now: SystemTime) -> Result<Self, Error> {
        let mut next = Self::first(now)?;
        if rotation == Rotation::Forced {
            return Ok(next);
        }
        let now = seconds(now);
        let alive = |public: &&Public| public.until.is_some_and(|until| now < until);
        next.retired = self.retired.iter().filter(alive).cloned().collect();
        next.retired.push(Public {
            id: self.id(),
            key: Arc::new(self.pair.public().clone()),
            until: Some(now.saturating_add(LIFETIME_MAX.as_secs())),
        });
        let surplus = next.retired.len().saturating_sub(RETIRED_MAX);
        next.retired.drain(..surplus);
        Ok(next)
    }

    fn id(&self) -> String {
        base64url(&self.pair.public().thumbprint())
    }

    fn public(&self) -> Vec<Public> {
        let current = Public {
            id: self.id(),
            key: Arc::new(self.pair.public().clone()),
            until: None,
        };
        std::iter::once(current)
            .chain(self.retired.iter().cloned())
            .collect()
    }

    fn read(bytes: &Secret<Vec<u8>>) -> Option<Self> {
        let raw: RawState = serde_json::from_slice(bytes.expose()).ok()?;
        let RawState {
            version: FILE_VERSION,
            key,
            since,
            retired,
        } = raw
        else {
            return None;
        };
        let key = Secret::new(key);
        let document = Secret::new(from_base64url(key.expose())?);
        let retired = retired.into_iter().map(|RawRetired { jwk, until }| {
            let key = PublicKey::from_jwk(&jwk).ok()?;
            Some(Public {
                id: base64url(&key.thumbprint()),
                key: Arc::new(key),
                until: Some(until),
            })
        });
        Some(Self {
            pair: KeyPair::from_pkcs8(&document).ok()?,
            since,
            retired: retired.collect::<Option<_>>()?,
        })
    }

    fn write(&self, file: &Path) -> Result<(), Error> {
        let document = self.pair.to_pkcs8()?;
        let retired = self.retired.iter().filter_map(|public| {
            let jwk = public.key.jwk().as_object()?.clone();
            let until = public.until?;
            Some(RawRetired { jwk, until })
        });
        let raw = RawState {
            version: FILE_VERSION,
            key: base64url(document.expose()),
            since: self.since,
            retired: retired.collect(),
        };
        let bytes = serde_json::to_vec(&raw).map_err(|_infallible| PairError::Make)?;
        drop(Secret::new(raw.key));
        let bytes = Secret::new(bytes);
        Ok(private_file::replace(file, bytes.expose())?)
    }
}

/// Whole seconds since 1970; a clock before that has no better answer than 0.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
