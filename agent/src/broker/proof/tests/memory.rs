//! Nonces, what is remembered, and clocks that jump.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BODY, NOW, RESOURCE, TOKEN, at, claims, proofs};
use crate::{
    broker::{
        jose::{Algorithm, base64url, from_base64url},
        proof::{PROOFS_MAX, PROOFS_OF_HOLDER_MAX, Proofs, Signer, nonce, replay},
        reason::Reason,
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
        let mut mark = [holder; 16];
        mark[..8].copy_from_slice(&number.to_be_bytes());
        mark
    };
    for number in 0..PROOFS_OF_HOLDER_MAX {
        replays.spend(1, mark(1, number), [1; 16]).expect("room");
    }
    // One holder has had its share; the next has not.
    let more = replays.spend(1, mark(1, PROOFS_OF_HOLDER_MAX), [1; 16]);
    assert_eq!(
        more.map_err(|refused| refused.reason),
        Err(Reason::ReplayStoreFull)
    );
    for holder in 2..=4 {
        for number in 0..PROOFS_OF_HOLDER_MAX {
            replays
                .spend(2, mark(holder, number), [holder; 16])
                .expect("room");
        }
    }
    assert_eq!(replays.len(), PROOFS_MAX);
    let more = replays.spend(3, mark(9, 0), [9; 16]);
    assert_eq!(
        more.map_err(|refused| refused.reason),
        Err(Reason::ReplayStoreFull)
    );
    // A replay is told as one even then, and a slot later there is room.
    let again = replays.spend(3, mark(2, 0), [2; 16]);
    assert_eq!(
        again.map_err(|refused| refused.reason),
        Err(Reason::ProofReplayed)
    );
    replays.spend(4, mark(9, 0), [9; 16]).expect("room");
}
