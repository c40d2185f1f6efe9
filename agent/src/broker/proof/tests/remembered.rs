//! Keys that are known by the header they stood in: what is remembered, and that it is worth nothing
//! without a signature.

use super::{BODY, NOW, RESOURCE, Signer, TOKEN, at, check, claims, proofs};
use crate::broker::{
    jose::Algorithm,
    proof::{
        Proofs,
        keys::{HALF, Keys},
    },
    reason::Reason,
};

fn proof(proofs: &Proofs, signer: &Signer) -> String {
    let proof = signer.proof(RESOURCE, TOKEN, Some(&proofs.nonce()), None, at(NOW));
    proof.expect("a proof")
}

/// With the signature of another.
fn forged(good: &str, other: &str) -> String {
    let (input, _) = good.rsplit_once('.').expect("three parts");
    let (_, signature) = other.rsplit_once('.').expect("three parts");
    format!("{input}.{signature}")
}

fn known(proofs: &Proofs) -> usize {
    proofs.keys.lock().expect("no panic").len()
}

#[test]
fn a_known_header_opens_nothing_by_itself() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let proofs = proofs();
        let signer = Signer::generate(algorithm).expect("a key");
        let other = Signer::generate(algorithm).expect("a key");
        let (one, two) = (proof(&proofs, &signer), proof(&proofs, &signer));
        let foreign = proof(&proofs, &other);
        // Not before its key has signed something.
        let refused = check(&proofs, &signer, &forged(&one, &foreign));
        assert_eq!(refused.err(), Some(Reason::ProofSignature));
        assert_eq!(known(&proofs), 0);
        for again in [&one, &two] {
            assert!(check(&proofs, &signer, again).is_ok());
            assert_eq!(known(&proofs), 1);
        }
        // And everything is asked of it again.
        let refused = check(&proofs, &signer, &forged(&two, &foreign));
        assert_eq!(refused.err(), Some(Reason::ProofSignature));
        let refused = check(&proofs, &other, &two);
        assert_eq!(refused.err(), Some(Reason::ProofKey));
        let elsewhere = claims(signer.thumbprint());
        let late = proofs.check(&two, TOKEN, &elsewhere, &BODY, false, at(NOW + 3_600));
        assert_eq!(
            late.map_err(|refused| refused.reason).err(),
            Some(Reason::ProofTime)
        );
        let (_, rest) = two.split_once('.').expect("three parts");
        let garbage = forged(
            &format!("{}.e30.x", two.split_once('.').expect("parts").0),
            rest,
        );
        let refused = check(&proofs, &signer, &garbage);
        assert_eq!(refused.err(), Some(Reason::ProofSignature));
    }
}

#[test]
fn so_many_keys_and_no_more() {
    let signer = Signer::generate(Algorithm::EdDsa).expect("a key");
    let proofs = proofs();
    assert!(check(&proofs, &signer, &proof(&proofs, &signer)).is_ok());
    let mut keys = std::mem::take(&mut *proofs.keys.lock().expect("no panic"));
    let header = proof(&proofs, &signer);
    let (header, _) = header.split_once('.').expect("three parts");
    let key = keys.get(header).expect("it is known");
    for number in 0..HALF * 4 {
        keys.put(&number.to_string(), key.clone());
        assert!(keys.len() <= HALF * 2);
        // What is used stays.
        keys.get("0").expect("the first");
    }
    assert!(keys.get(header).is_none(), "what is not used does not");
    let mut fresh = Keys::default();
    fresh.put(&"a".repeat(4_096), key);
    assert_eq!(fresh.len(), 0, "too long");
}
