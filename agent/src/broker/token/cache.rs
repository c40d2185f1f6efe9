//! Tokens whose signature was checked, by the SHA-256 of the whole token; bounded.
//!
//! Two halves: what is used stays in the younger one, and when that is full it becomes the older one.
//! Forgetting costs a signature check and nothing else.

use std::collections::HashMap;

use super::Signed;

/// Tokens in each half.
pub(super) const HALF: usize = 2_048;

#[derive(Debug, Default)]
pub(super) struct Cache {
    young: HashMap<[u8; 32], Signed>,
    old: HashMap<[u8; 32], Signed>,
}

impl Cache {
    /// What was found out about a token while the issuers' keys were as they are now.
    pub(super) fn get(&mut self, digest: &[u8; 32], generation: u64) -> Option<Signed> {
        if let Some(signed) = self.young.get(digest) {
            return (signed.generation == generation).then(|| signed.clone());
        }
        let signed = self.old.remove(digest)?;
        (signed.generation == generation).then(|| {
            self.put(*digest, signed.clone());
            signed
        })
    }

    pub(super) fn put(&mut self, digest: [u8; 32], signed: Signed) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, signed);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
