//! What was spent: bounded, by slots of time, so that forgetting is dropping a whole slot. Full means
//! refuse; nothing is ever forgotten early.
//!
//! A proof holds as long as its nonce: the slot of that and the next. So what was spent in a slot is
//! kept for two slots more.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::hmac;

use crate::broker::reason::{Reason, Refused};

/// Proofs that are remembered at once.
pub const PROOFS_MAX: usize = 524_288;
/// Of one holder, so that one can not shut the others out.
pub const PROOFS_OF_HOLDER_MAX: usize = 131_072;
const SLOTS: usize = 3;
const MARK_BYTES: usize = 16;

const _: () = assert!(PROOFS_OF_HOLDER_MAX * 2 <= PROOFS_MAX);

/// A keyed digest: what stands for a proof or its holder. Nobody outside can make two alike.
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

#[derive(Debug, Default)]
pub(super) struct Replays {
    /// Number of the first of the slots, the youngest.
    slot: u64,
    slots: [Slot; SLOTS],
}

#[derive(Debug, Default)]
struct Slot {
    spent: HashSet<Mark>,
    by_holder: HashMap<Mark, usize>,
}

impl Replays {
    /// Remembers a proof that was never spent before.
    pub(super) fn spend(&mut self, now: u64, proof: Mark, holder: Mark) -> Result<(), Refused> {
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
        if let Some(youngest) = self.slots.first_mut() {
            youngest.spent.insert(proof);
            let count = youngest.by_holder.entry(holder).or_insert(0);
            *count = count.saturating_add(1);
        }
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
