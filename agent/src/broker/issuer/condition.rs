//! How the keys of every issuer are, for `status` and the metrics.

use std::{
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use super::{Issuers, fetched};
use crate::clock::BootTime;

/// How the keys of one issuer are.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The issuer.
    pub issuer: String,
    /// Where its keys come from: `own`, `file` or `fetched`.
    pub source: &'static str,
    /// Keys that are believed; without one, no token of it is good.
    pub keys: usize,
    /// Since when they are as they are; none where there never were any, and for our own.
    pub age: Option<Duration>,
    /// Why newer ones could not be had.
    pub error: Option<String>,
    /// How many fetches ended how.
    pub fetches: Vec<(&'static str, u64)>,
}

impl Issuers {
    /// How the keys of every issuer are: our own first.
    #[must_use]
    pub fn conditions(&self, now: SystemTime) -> Vec<Condition> {
        let own = self.embedded.iter().map(|embedded| Condition {
            issuer: embedded.issuer().to_owned(),
            source: "own",
            keys: embedded.believed(now),
            age: None,
            error: None,
            fetches: Vec::new(),
        });
        let read = self.read.load();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.files.iter().map(|file| {
            let found = read.get(&file.issuer);
            Condition {
                issuer: file.issuer.clone(),
                source: "file",
                keys: found.map_or(0, |read| read.keys.len()),
                age: found.map(|read| BootTime::now().since(read.since)),
                error: failed.get(&file.issuer).cloned(),
                fetches: Vec::new(),
            }
        });
        let fetched = self.fetched.values().map(|one| {
            let fetched::Condition { keys, age, error } = one.condition();
            Condition {
                issuer: one.issuer().to_owned(),
                source: "fetched",
                keys,
                age,
                error,
                fetches: one.outcomes().collect(),
            }
        });
        own.chain(files).chain(fetched).collect()
    }
}
