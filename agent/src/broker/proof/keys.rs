//! Keys that proofs have carried, by the header they stood in; bounded.
//!
//! A holder's proofs have one header, byte for byte. What was found out about it is remembered once a
//! signature of its key was good, so nobody without a key fills this. Two halves: what is used stays
//! in the younger one, and when that is full it becomes the older one. Forgetting costs the reading of
//! a key and nothing else.

use std::{collections::HashMap, sync::Arc};

use crate::broker::jose::PublicKey;

/// Keys in each half.
pub(super) const HALF: usize = 1_024;
/// Longest header that is remembered, bytes: one with a P-256 key has about 250.
const HEADER_BYTES_MAX: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Keys {
    young: HashMap<Box<str>, Arc<PublicKey>>,
    old: HashMap<Box<str>, Arc<PublicKey>>,
}

impl Keys {
    /// The key of a header that was read before.
    pub(super) fn get(&mut self, header: &str) -> Option<Arc<PublicKey>> {
        if let Some(key) = self.young.get(header) {
            return Some(Arc::clone(key));
        }
        let (header, key) = self.old.remove_entry(header)?;
        self.put_owned(header, Arc::clone(&key));
        Some(key)
    }

    /// Remembers the key of a header, all of which was accepted.
    pub(super) fn put(&mut self, header: &str, key: Arc<PublicKey>) {
        if header.len() <= HEADER_BYTES_MAX {
            self.put_owned(header.into(), key);
        }
    }

    fn put_owned(&mut self, header: Box<str>, key: Arc<PublicKey>) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(header, key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
