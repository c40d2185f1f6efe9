//! Keys that are fetched: of one issuer, by one task, one fetch at a time. They are fetched again
//! before they are stale, and at once when a token names a key that lacks, within bounds: no flood of
//! such tokens fetches more often than once in a pause, and no call waits longer than [`WAIT_MAX`].
//!
//! Where no new keys can be had, the last ones are believed up to a hard age, by the kernel's clock
//! since boot: who can keep us from fetching can not keep a withdrawn key alive for longer.

mod client;
mod discovery;
mod error;
mod pace;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

pub use client::Client;
use client::Page;
pub use discovery::{DOCUMENT_BYTES_MAX, key_place};
pub use error::{DiscoveryError, FetchError, Outcome};
use pace::Pace;

use super::{Error, JWKS_BYTES_MAX, Keys};
use crate::{
    authorities,
    broker::{
        jose::PublicKey,
        reason::{Reason, Refused},
    },
    clock::BootTime,
    config::{Fetching, KeyPlace},
    shutdown::Stopping,
};

/// Longest time that a call waits for a key.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// Time of one fetch with all its pages.
const FETCH_TIME_MAX: Duration = Duration::from_secs(8);
/// Calls that wait for the keys of one issuer; others are told to come again.
const WAITING_MAX: usize = 64;
/// Key ids that are known to be nobody's.
const ABSENT_MAX: usize = 1_024;
/// For how long they are.
const ABSENT_TIME: Duration = Duration::from_mins(1);

/// An issuer whose keys are fetched.
#[derive(Debug)]
pub struct Fetched {
    issuer: String,
    settings: Fetching,
    client: Client,
    pace: Pace,
    held: ArcSwapOption<Held>,
    generation: AtomicU64,
    /// Key ids that a fetch has shown to lack, until when that is believed.
    absent: Mutex<HashMap<String, BootTime>>,
    wanted: Notify,
    waiting: Semaphore,
    turns: watch::Sender<Turn>,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

/// Keys and how long they are believed.
#[derive(Debug)]
struct Held {
    keys: Keys,
    since: BootTime,
    until: BootTime,
}

/// The last fetch.
#[derive(Clone, Debug, Default)]
struct Turn {
    began: BootTime,
    /// Before this nobody gets another one.
    not_before: BootTime,
    /// When the next one is due.
    due: BootTime,
    /// Failures in a row.
    failures: u32,
    error: Option<String>,
}

/// How an issuer's keys are, for people.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Keys that are believed.
    pub keys: usize,
    /// Their age.
    pub age: Option<Duration>,
    /// Why the last fetch failed.
    pub error: Option<String>,
}

impl Fetched {
    /// Reads the authorities that are trusted; fetches nothing yet.
    pub fn new(issuer: String, settings: Fetching) -> Result<Self, Error> {
        let bad = |why: &dyn std::fmt::Display| Error::Authorities {
            issuer: issuer.clone(),
            path: settings.ca.clone(),
            why: why.to_string(),
        };
        let authorities = authorities::read(&settings.ca).map_err(|error| bad(&error))?;
        let client = Client::new(authorities).map_err(|error| bad(&error))?;
        Ok(Self {
            client,
            pace: Pace {
                refresh_min: settings.refresh_min,
                refresh_max: settings.refresh_max,
                pause: settings.pause,
            },
            issuer,
            settings,
            held: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            absent: Mutex::default(),
            wanted: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
            turns: watch::Sender::new(Turn::default()),
            outcomes: Default::default(),
        })
    }

    /// Its identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The key of this id, and until when it is believed without another fetch.
    pub(super) fn key(&self, id: &str) -> Result<(Arc<PublicKey>, BootTime), Refused> {
        let held = self.held.load();
        let Some(held) = held.as_ref().filter(|held| BootTime::now() < held.until) else {
            return Err(Reason::IssuerUnavailable.into());
        };
        let key = held.keys.get(id).ok_or(Reason::TokenKey)?;
        Ok((key, held.until))
    }

    /// Has the keys fetched for a token that names one which lacks. Comes back when it is there.
    pub(super) async fn ask(&self, id: &str) -> Result<(), Refused> {
        let mut turns = self.turns.subscribe();
        let asked = BootTime::now();
        if self.is_absent(id, asked) {
            return Err(Refused::because(
                Reason::TokenKey,
                "its issuer did not have it",
            ));
        }
        let not_before = turns.borrow().not_before;
        if asked < not_before {
            return Err(self.later(asked, not_before));
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(unavailable(WAIT_MAX, "too many calls wait for its keys"));
        };
        self.wanted.notify_one();
        if !matches!(timeout(WAIT_MAX, turns.changed()).await, Ok(Ok(()))) {
            return Err(unavailable(WAIT_MAX, "its keys take longer to fetch"));
        }
        let turn = turns.borrow().clone();
        let now = BootTime::now();
        if self.key(id).is_ok() {
            return Ok(());
        }
        // A fetch that was under way may have missed a key that was new when this one was asked for.
        if turn.error.is_some() || turn.began < asked {
            return Err(self.later(now, turn.not_before));
        }
        self.remember_absent(id, now);
        Err(Reason::TokenKey.into())
    }

    /// Fetches whenever it is due or wanted, until the agent stops.
    pub(super) async fn run(self: Arc<Self>, mut stopping: Stopping) {
        loop {
            tokio::select! {
                () = stopping.wait() => return,
                () = self.until_next() => {}
            }
            tokio::select! {
                () = stopping.wait() => return,
                () = self.turn() => {}
            }
        }
    }

    /// How the keys are.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let now = BootTime::now();
        let held = self.held.load();
        let believed = held.as_ref().filter(|held| now < held.until);
        Condition {
            keys: believed.map_or(0, |held| held.keys.len()),
            age: held.as_ref().map(|held| now.since(held.since)),
            error: self.turns.borrow().error.clone(),
        }
    }

    /// How many fetches ended how.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.outcomes.iter();
        let labels = Outcome::ALL.iter().map(|outcome| outcome.label());
        labels.zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    async fn until_next(&self) {
        loop {
            let Turn {
                due, not_before, ..
            } = *self.turns.borrow();
            tokio::select! {
                () = sleep(due.since(BootTime::now())) => return,
                () = self.wanted.notified() => {
                    // Somebody may have asked before the last fetch ended, and been answered by it.
                    if BootTime::now() >= not_before {
                        return;
                    }
                }
            }
        }
    }

    async fn turn(&self) {
        let began = BootTime::now();
        let fetched = timeout(FETCH_TIME_MAX, self.fetch()).await;
        let fetched = fetched.unwrap_or(Err(FetchError::Slow));
        let ended = BootTime::now();
        let outcome = fetched
            .as_ref()
            .map_or_else(FetchError::outcome, |_| Outcome::Success);
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let failures = self.turns.borrow().failures;
        let turn = match fetched {
            Ok((keys, max_age)) => {
                if failures > 0 || self.held.load().is_none() {
                    tracing::info!(
                        issuer.name = self.issuer,
                        issuer.keys = keys.len(),
                        "keys of an issuer fetched"
                    );
                }
                self.hold(keys, began);
                Turn {
                    began,
                    not_before: ended + self.pace.pause,
                    due: ended + self.pace.after_success(max_age),
                    failures: 0,
                    error: None,
                }
            }
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(
                    issuer.name = self.issuer,
                    issuer.keys = self.condition().keys,
                    error,
                    "keys of an issuer not fetched: the last ones stay up to their hard age"
                );
                let failures = failures.saturating_add(1);
                let next = ended + self.pace.after_failure(failures);
                Turn {
                    began,
                    not_before: next,
                    due: next,
                    failures,
                    error: Some(error),
                }
            }
        };
        self.turns.send_replace(turn);
    }

    async fn fetch(&self) -> Result<(Keys, Option<Duration>), FetchError> {
        let found;
        let place = match &self.settings.place {
            KeyPlace::Set(place) => place,
            KeyPlace::Discovery(issuer) => {
                let [first, second] = discovery::places(issuer);
                let document = match self.client.get(&first, DOCUMENT_BYTES_MAX).await {
                    // An authorization server need not be an OpenID provider.
                    Err(FetchError::Status(400..=499)) => {
                        self.client.get(&second, DOCUMENT_BYTES_MAX).await
                    }
                    other => other,
                };
                let Page { bytes, max_age: _ } = document?;
                found = key_place(&bytes, &self.issuer, issuer, self.settings.http)?;
                &found
            }
        };
        let Page { bytes, max_age } = self.client.get(place, JWKS_BYTES_MAX).await?;
        Ok((Keys::parse(&bytes)?, max_age))
    }

    /// Their age counts from before they were asked for.
    fn hold(&self, keys: Keys, since: BootTime) {
        let until = since + self.settings.stale_max;
        let held = Held { keys, since, until };
        self.held.store(Some(Arc::new(held)));
        // After the keys: who saw the old number checks again.
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether keys are to be had is the issuer's affair; that one lacks among good ones, the token's.
    fn later(&self, now: BootTime, not_before: BootTime) -> Refused {
        let wait = not_before.since(now);
        if self.turns.borrow().error.is_some() {
            return unavailable(wait, "its keys were not fetched");
        }
        Refused {
            retry_after: Some(wait),
            ..Refused::because(Reason::TokenKey, "its issuer did not have it lately")
        }
    }

    fn is_absent(&self, id: &str, now: BootTime) -> bool {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent.get(id).is_some_and(|until| now < *until)
    }

    fn remember_absent(&self, id: &str, now: BootTime) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= ABSENT_MAX {
            absent.retain(|_, until| now < *until);
        }
        // Without room it is only asked for again, which the pause bounds.
        if absent.len() < ABSENT_MAX {
            absent.insert(id.to_owned(), now + ABSENT_TIME);
        }
    }
}

fn unavailable(wait: Duration, why: &str) -> Refused {
    Refused {
        retry_after: Some(wait),
        ..Refused::because(Reason::IssuerUnavailable, why)
    }
}

#[cfg(test)]
mod tests;
