//! The key of a proof, and the file in which a client keeps it.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde_json::json;

use super::{BODY, NOW, RESOURCE, TOKEN, at, check, claims, odd, proofs};
use crate::broker::{
    jose::{Algorithm, KeyPair, base64url, from_base64url},
    proof::{Signer, SignerError},
    reason::Reason,
};

#[test]
fn keys_and_signatures_are_the_holder_s() {
    let (proofs, pair, thief) = (
        proofs(),
        KeyPair::p256().expect("a key"),
        KeyPair::p256().expect("a key"),
    );
    let holder = claims(pair.public().thumbprint());
    let reason = |proof: &str| {
        let checked = proofs.check(proof, TOKEN, &holder, &BODY, false, at(NOW));
        checked.map_err(|refused| refused.reason).err()
    };
    let own = odd(&proofs, &thief, &json!({}), &json!({}));
    assert_eq!(reason(&own), Some(Reason::ProofKey));
    let stolen = odd(
        &proofs,
        &thief,
        &json!({"jwk": pair.public().jwk()}),
        &json!({}),
    );
    assert_eq!(reason(&stolen), Some(Reason::ProofSignature));
    let good = odd(&proofs, &pair, &json!({}), &json!({}));
    assert_eq!(reason(&good), None);
    for at in 0..good.len() {
        let mut other = good.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).expect("ASCII");
        assert!(reason(&other).is_some(), "byte {at}");
    }
    for other in [
        String::new(),
        format!("{good},{good}"),
        format!("{good} "),
        "a".repeat(5_000),
    ] {
        assert_eq!(reason(&other), Some(Reason::ProofMalformed));
    }
}

#[test]
fn the_other_form_of_a_signature_is_the_same_proof() {
    // Of an ECDSA signature (r, s), (r, n - s) is one too, which anybody can compute.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (proofs, signer) = (proofs(), Signer::generate(Algorithm::Es256).expect("a key"));
    let proof = signer.proof(RESOURCE, TOKEN, Some(&proofs.nonce()), None, at(NOW));
    let proof = proof.expect("a proof");
    let (input, signature) = proof.rsplit_once('.').expect("parts");
    let mut signature = from_base64url(signature).expect("base64url");
    let mut borrow = 0;
    for (digit, order) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = i16::from(order) - i16::from(*digit) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).expect("a byte");
    }
    let twin = format!("{input}.{}", base64url(&signature));
    assert_ne!(twin, proof);
    let first = check(&proofs, &signer, &proof).expect("good");
    let second = check(&proofs, &signer, &twin).expect("good as well");
    assert!(proofs.spend(first).is_ok());
    let again = proofs.spend(second).map_err(|refused| refused.reason);
    assert_eq!(again.err(), Some(Reason::ProofReplayed));
}

#[test]
fn proof_keys_lie_in_private_files() {
    let folder = tempfile::tempdir().expect("a folder");
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let file = folder.path().join(algorithm.name());
        let signer = Signer::generate(algorithm).expect("a key");
        signer.save(&file).expect("saved");
        assert_eq!(fs::metadata(&file).expect("a file").mode() & 0o777, 0o600);
        assert_eq!(Signer::load(&file).expect("a key").jkt(), signer.jkt());
        // What is there stays.
        assert!(matches!(signer.save(&file), Err(SignerError::File(_))));
        let text = fs::read_to_string(&file).expect("a file");
        for line in text.lines() {
            assert!(line.len() <= 64, "{line}");
        }
        fs::write(&file, text.replace("PRIVATE", "PUBLIC")).expect("written");
        assert!(matches!(Signer::load(&file), Err(SignerError::Pem)));
    }
    assert!(matches!(
        Signer::load(&folder.path().join("none")),
        Err(SignerError::Absent)
    ));
    assert!(matches!(
        Signer::generate(Algorithm::Rs256),
        Err(SignerError::Algorithm)
    ));
}
