//! A table with a bound: full means no, never that somebody else's count is forgotten.

use std::{collections::HashMap, time::Duration};

use super::{gcra::Nanos, key::Key};

/// Entries of one table.
pub(super) const ENTRIES_MAX: usize = 65_536;
/// Between two looks for entries that no longer count.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Counts by key.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<Key, T>,
    swept: Nanos,
    max: usize,
}

impl<T> Table<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            swept: 0,
            max,
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&T> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut T> {
        self.entries.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: Key, value: T) {
        self.entries.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.entries.iter()
    }

    /// Whether `more` new keys fit, after dropping what `dead` says no longer counts.
    pub(super) fn has_room(&mut self, more: usize, now: Nanos, dead: impl Fn(&T) -> bool) -> bool {
        let fits = |len: usize| len.saturating_add(more) <= self.max;
        if fits(self.entries.len()) {
            return true;
        }
        let every = u64::try_from(SWEEP_EVERY.as_nanos()).unwrap_or(u64::MAX);
        // A full table of live entries must not cost a sweep for every call.
        if self.swept != 0 && now < self.swept.saturating_add(every) {
            return false;
        }
        self.swept = now.max(1);
        self.entries.retain(|_, value| !dead(value));
        self.entries.len().saturating_add(more) <= self.max
    }
}
