//! What was spent: bounded, by the slot of time of its nonce, so that forgetting is dropping a whole
//! slot. Full means refuse; nothing is ever forgotten early.
//!
//! A proof holds as long as its nonce: its slot and the next. So two slots are kept, and what was spent
//! under an older nonce needs no memory: it is refused for that.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use aws_lc_rs::hmac;

use crate::broker::reason::{Reason, Refused};

/// Proofs that are remembered at once: two slots of 6,000 calls a second need 720,000.
pub const PROOFS_MAX: usize = 1_048_576;
/// Of one holder, so that one can not shut the others out.
pub const PROOFS_OF_HOLDER_MAX: usize = 524_288;
const SLOTS: usize = 2;
const MARK_BYTES: usize = 8;

const _: () = assert!(PROOFS_OF_HOLDER_MAX * 2 <= PROOFS_MAX);

/// A keyed digest: what stands for a proof or its holder. Nobody outside can make two alike, and of a
/// full memory two are by chance with a probability of 2⁻²⁴ in all; the second of them is refused.
pub(super) type Mark = [u8; MARK_BYTES];

/// The mark of a proof by its holder's key and its id.
pub(super) fn mark(secret: &hmac::Key, holder: &[u8; 32], id: &str) -> Mark {
    let mut context = hmac::Context::with_key(secret);
    context.update(b"proof");
    context.update(holder);
    context.update(id.as_bytes());
    let tag = context.sign();
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What was spent under the nonces that hold.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// The youngest slot; the other is the one before.
    slot: u64,
    slots: [Slot; SLOTS],
}

/// What was spent under the nonce of one slot.
#[derive(Debug, Default)]
struct Slot {
    spent: HashSet<Mark, BuildHasherDefault<Drawn>>,
    by_holder: HashMap<Mark, usize, BuildHasherDefault<Drawn>>,
}

impl Replays {
    /// Remembers a proof that was never spent before. `slot` is that of its nonce, which holds `now`.
    pub(super) fn spend(
        &mut self,
        now: u64,
        slot: u64,
        proof: Mark,
        holder: Mark,
    ) -> Result<(), Refused> {
        self.advance(now);
        if self.slots.iter().any(|slot| slot.spent.contains(&proof)) {
            return Err(Reason::ProofReplayed.into());
        }
        let counts = self
            .slots
            .iter()
            .filter_map(|slot| slot.by_holder.get(&holder));
        if self.len() >= PROOFS_MAX || counts.sum::<usize>() >= PROOFS_OF_HOLDER_MAX {
            return Err(Reason::ReplayStoreFull.into());
        }
        let age = self.slot.saturating_sub(slot);
        let own = usize::try_from(age)
            .ok()
            .and_then(|age| self.slots.get_mut(age));
        // A nonce that is older than what is remembered holds no more.
        let own = own.ok_or(Reason::ProofNonce)?;
        own.spent.insert(proof);
        let count = own.by_holder.entry(holder).or_insert(0);
        *count = count.saturating_add(1);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(|slot| slot.spent.len()).sum()
    }

    /// Drops the slots in which nothing lies that could still be used.
    fn advance(&mut self, now: u64) {
        let ahead = usize::try_from(now.saturating_sub(self.slot)).unwrap_or(SLOTS);
        for _ in 0..ahead.min(SLOTS) {
            self.slots.rotate_right(1);
            if let Some(youngest) = self.slots.first_mut() {
                *youngest = Slot::default();
            }
        }
        self.slot = self.slot.max(now);
    }
}

/// The hash of a mark is the mark: it is a keyed digest already.
#[derive(Debug, Default)]
struct Drawn(u64);

impl Hasher for Drawn {
    fn write(&mut self, bytes: &[u8]) {
        // An array is hashed with its length first, then as one slice of its bytes.
        if let Some(mark) = bytes.first_chunk() {
            self.0 ^= u64::from_ne_bytes(*mark);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
