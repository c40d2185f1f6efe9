//! Nonces without a memory: the number of a time slot and its MAC. A proof with one was made in this
//! slot or the one before, whatever the wall clock said.

use aws_lc_rs::{constant_time, hmac};

use crate::{
    broker::jose::{base64url, from_base64url},
    clock::BootTime,
};

/// Length of a slot. A nonce holds in the slot in which it was given out and in the next.
pub(super) const SLOT_SECONDS: u64 = 60;
const NANOSECONDS: u64 = 1_000_000_000;
const NUMBER_BYTES: usize = 8;
/// Kept of the MAC.
const MAC_BYTES: usize = 16;

/// The slot of an instant.
pub(super) fn slot(now: BootTime) -> u64 {
    // One is never 0, so that there is always a slot before.
    (now.0 / (SLOT_SECONDS * NANOSECONDS)).saturating_add(1)
}

/// Whether a nonce of a slot holds in another.
pub(super) fn is_fresh(slot: u64, now: u64) -> bool {
    slot <= now && now.saturating_sub(slot) <= 1
}

/// The nonce of a slot.
pub(super) fn make(secret: &hmac::Key, slot: u64) -> String {
    let mut nonce = slot.to_be_bytes().to_vec();
    nonce.extend(mac(secret, slot));
    base64url(&nonce)
}

/// The slot of a nonce of ours that holds now.
pub(super) fn read(secret: &hmac::Key, shown: &str, now: u64) -> Option<u64> {
    let shown = from_base64url(shown).filter(|shown| shown.len() == NUMBER_BYTES + MAC_BYTES)?;
    let (slot, shown) = shown.split_first_chunk::<NUMBER_BYTES>()?;
    let slot = u64::from_be_bytes(*slot);
    constant_time::verify_slices_are_equal(&mac(secret, slot), shown).ok()?;
    is_fresh(slot, now).then_some(slot)
}

fn mac(secret: &hmac::Key, slot: u64) -> [u8; MAC_BYTES] {
    let mut context = hmac::Context::with_key(secret);
    context.update(b"nonce");
    context.update(&slot.to_be_bytes());
    let tag = context.sign();
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}
