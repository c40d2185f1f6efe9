//! Nonces, what is remembered, and clocks that jump.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BODY, NOW, RESOURCE, TOKEN, at, claims, proofs};
use crate::{
    broker::{
        jose::{Algorithm, base64url, from_base64url},
        proof::{PROOFS_MAX, PROOFS_OF_HOLDER_MAX, Proofs, Signer, nonce, replay},
        reason::{Reason, Refused},
    },
    clock::BootTime,
};

const MINUTE: u64 = 60_000_000_000;

#[test]
fn clocks_may_jump() {
    static BOOT: AtomicU64 = AtomicU64::new(10 * MINUTE);
    let proofs = Proofs::with_clock(RESOURCE.to_owned(), || {
        BootTime(BOOT.load(Ordering::SeqCst))
    });
    let proofs = proofs.expect("a secret");
    let signer = Signer::generate(Algorithm::EdDsa).expect("a key");
    let claims = claims(signer.thumbprint());
    let proof = signer.proof(RESOURCE, TOKEN, Some(&proofs.nonce()), None, at(NOW));
    let proof = proof.expect("a proof");
    let check = |now| {
        let checked = proofs.check(&proof, TOKEN, &claims, &BODY, false, at(now));
        checked.map_err(|refused| refused.reason)
    };
    let late = check(NOW).expect("good");
    proofs
        .spend(check(NOW).expect("good"))
        .map(drop)
        .expect("spent");
    // The wall clock goes an hour ahead, and back again: the proof is still known.
    assert_eq!(check(NOW + 3_600).err(), Some(Reason::ProofTime));
    assert_eq!(check(NOW - 3_600).err(), Some(Reason::ProofTime));
    let again = proofs.spend(check(NOW).expect("nothing but replayed"));
    assert!(again.is_err());
    // A slot later the nonce still holds, and so does the memory.
    BOOT.fetch_add(MINUTE, Ordering::SeqCst);
    let again = proofs.spend(check(NOW).expect("nothing but replayed"));
    assert_eq!(
        again.map_err(|refused| refused.reason).err(),
        Some(Reason::ProofReplayed)
    );
    // Two later the nonce is gone, whatever the wall clock says: also for who was checked before.
    BOOT.fetch_add(MINUTE, Ordering::SeqCst);
    assert_eq!(check(NOW).err(), Some(Reason::ProofNonce));
    let spent = proofs.spend(late).map_err(|refused| refused.reason);
    assert_eq!(spent.err(), Some(Reason::ProofNonce));
    // And then nothing is remembered any more.
    BOOT.fetch_add(5 * MINUTE, Ordering::SeqCst);
    let fresh = signer.proof(RESOURCE, TOKEN, Some(&proofs.nonce()), None, at(NOW));
    let fresh = super::check(&proofs, &signer, &fresh.expect("a proof")).expect("good");
    assert!(proofs.spend(fresh).is_ok());
    assert_eq!(proofs.remembered(), 1);
}

#[test]
fn nonces_are_not_guessed_and_not_of_the_future() {
    let proofs = proofs();
    let now = nonce::slot(BootTime::now());
    for (slot, holds) in [
        (now, true),
        (now - 1, true),
        (now + 1, false),
        (now.wrapping_sub(2), false),
    ] {
        let made = nonce::make(&proofs.secret, slot);
        assert_eq!(
            nonce::read(&proofs.secret, &made, now).is_some(),
            holds,
            "{slot}"
        );
    }
    let mut bytes = from_base64url(&proofs.nonce()).expect("base64url");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(nonce::read(&proofs.secret, &base64url(&bytes), now).is_none());
}

#[test]
fn a_full_memory_refuses() {
    let mut replays = replay::Replays::default();
    let mark = |holder: u8, number: usize| {
        let number = (u64::try_from(number).expect("small") << 8) | u64::from(holder);
        // An odd factor keeps them apart and spreads them, as a digest would.
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes()
    };
    let reason = |spent: Result<(), Refused>| spent.map_err(|refused| refused.reason);
    for number in 0..PROOFS_OF_HOLDER_MAX {
        replays.spend(1, 1, mark(1, number), [1; 8]).expect("room");
    }
    // One holder has had its share; the next has not.
    let more = replays.spend(1, 1, mark(1, PROOFS_OF_HOLDER_MAX), [1; 8]);
    assert_eq!(reason(more), Err(Reason::ReplayStoreFull));
    for number in 0..PROOFS_OF_HOLDER_MAX {
        // Under the nonce of the slot before, which holds for one slot less.
        let slot = if number % 2 == 0 { 1 } else { 2 };
        replays
            .spend(2, slot, mark(2, number), [2; 8])
            .expect("room");
    }
    assert_eq!(replays.len(), PROOFS_MAX);
    let more = replays.spend(2, 2, mark(9, 0), [9; 8]);
    assert_eq!(reason(more), Err(Reason::ReplayStoreFull));
    // A replay is told as one even then, under whichever nonce it was spent.
    for number in [0, 1] {
        let again = replays.spend(2, 2, mark(2, number), [2; 8]);
        assert_eq!(reason(again), Err(Reason::ProofReplayed));
    }
    // A slot later what was spent under a nonce that holds no more is gone, and nothing else is.
    replays.spend(3, 3, mark(9, 0), [9; 8]).expect("room");
    assert_eq!(replays.len(), PROOFS_OF_HOLDER_MAX / 2 + 1);
    let again = replays.spend(3, 3, mark(2, 1), [2; 8]);
    assert_eq!(reason(again), Err(Reason::ProofReplayed));
    // And a nonce that holds no more has no place to be remembered in.
    let late = replays.spend(3, 1, mark(9, 1), [9; 8]);
    assert_eq!(reason(late), Err(Reason::ProofNonce));
}
