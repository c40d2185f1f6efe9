//! Checkpoints and keys: their form, and texts that only look like them.

use proptest::prelude::*;

use super::super::{
    chain::{Head, hex, unhex},
    checkpoint::{self, NoteError},
    key::{Key, VerifierKey},
};

const HEAD: Head = Head {
    sequence: 42,
    hash: [9; 32],
};

fn key() -> Key {
    Key::generate().expect("a key").0
}

#[test]
fn a_checkpoint_is_a_signed_note() {
    let key = key();
    let name = key.verifier().name();
    let note = checkpoint::sign(&key, HEAD);
    let lines: Vec<&str> = note.lines().collect();
    assert_eq!(lines[..2], [name, "42"]);
    assert_eq!(lines[2], "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=");
    assert_eq!(lines[3], "");
    // Four bytes of the key's id and 64 of the signature.
    let signature = lines[4].strip_prefix(&format!("\u{2014} {name} "));
    assert_eq!(signature.expect("a signature").len(), 92);
    assert_eq!(lines.len(), 5);
    let opened = checkpoint::open(&note, key.verifier()).expect("ours");
    assert_eq!((opened.sequence, opened.hash), (42, [9; 32]));
}

#[test]
fn signatures_of_witnesses_stand_beside_ours_and_not_for_it() {
    let (key, witness) = (key(), key());
    let note = checkpoint::sign(&key, HEAD);
    let other = checkpoint::sign(&witness, HEAD);
    let line = other.lines().last().expect("a signature");
    let both = format!("{note}{line}\n");
    checkpoint::open(&both, key.verifier()).expect("ours is there");
    let body = note.split("\n\n").next().expect("a body");
    let theirs = format!("{body}\n\n{line}\n");
    for (text, error) in [
        (theirs.as_str(), NoteError::Unsigned),
        (other.as_str(), NoteError::Origin),
        (&note.replace("\n42\n", "\n43\n"), NoteError::Signature),
        (&note.replace("\n42\n", "\n042\n"), NoteError::Form),
        (&note.replace("\n42\n", "\n+42\n"), NoteError::Form),
        (&format!("{note}x"), NoteError::Form),
        (&format!("{body}\n"), NoteError::Form),
        (&"\n".repeat(5000), NoteError::Form),
    ] {
        assert_eq!(checkpoint::open(text, key.verifier()), Err(error), "{text}");
    }
}

#[test]
fn keys_are_read_back_and_nothing_else_is() {
    let (key, text) = Key::generate().expect("a key");
    let again = Key::read(&text).expect("the same");
    assert_eq!(again.verifier(), key.verifier());
    assert_eq!(again.salted(b"x"), key.salted(b"x"));
    let public = key.verifier().text();
    assert_eq!(&VerifierKey::read(&public).expect("a key"), key.verifier());
    // `PRIVATE+KEY+name+id+` and then base64, which may have a plus of its own.
    let secret = text.trim().splitn(5, '+').last().expect("a secret");
    assert!(secret.len() > 40, "all of it");
    assert!(!format!("{key:?}").contains(secret));
    // The private half is not taken for the public one, nor the other way round.
    assert!(Key::read(&public).is_err());
    assert!(VerifierKey::read(&text).is_err());
    let renamed = public.replacen("journal/", "journaL/", 1);
    assert!(VerifierKey::read(&renamed).is_err());
}

proptest! {
    #[test]
    fn texts_do_no_harm(text in "\\PC{0,200}", at in 0_usize..300, byte: u8) {
        let key = key();
        prop_assert!(checkpoint::open(&text, key.verifier()).is_err());
        prop_assert!(VerifierKey::read(&text).is_err());
        let note = checkpoint::sign(&key, HEAD);
        let mut bytes = note.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert_eq!(
            checkpoint::open(&changed, key.verifier()).is_ok(),
            changed == note
        );
    }

    #[test]
    fn hexadecimal_is_read_back(hash: [u8; 32]) {
        prop_assert_eq!(unhex(&hex(&hash)), Some(hash));
        prop_assert_eq!(unhex(&hex(&hash).to_uppercase()).is_some(), hex(&hash).bytes().all(|digit| digit.is_ascii_digit()));
    }
}
