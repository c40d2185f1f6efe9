//! Checkpoints: the end of the chain at one moment, signed. The form is C2SP's tlog-checkpoint
//! (<https://c2sp.org/tlog-checkpoint>), a signed note (<https://c2sp.org/signed-note>): origin, number
//! of the last record, its hash in base64, an empty line, signatures. The hash is the chain's, so
//! who holds a checkpoint needs the records up to it to check it, and nothing else.
//!
//! This file does no I/O.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    chain::{Hash, Head},
    key::{Key, VerifierKey},
};

/// A checkpoint's size, bytes, with the signatures of a few witnesses.
pub(super) const NOTE_BYTES_MAX: usize = 4096;

const SIGNATURE_MARK: &str = "\u{2014} ";
const KEY_ID_BYTES: usize = 4;

/// The end of a chain at some moment, signed by the journal's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Number of the last record that it covers.
    pub sequence: u64,
    /// SHA-256 of that record's line.
    pub hash: Hash,
}

/// A checkpoint as it was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Number of the last record that it covers.
    pub sequence: u64,
    /// Its text.
    pub note: Arc<str>,
}

/// Why a text is no checkpoint of this journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// It has another form.
    #[error("is no checkpoint")]
    Form,
    /// It is of another journal.
    #[error("is of another journal")]
    Origin,
    /// No signature of the key is on it.
    #[error("is not signed by the journal's key")]
    Unsigned,
    /// The signature is wrong.
    #[error("has a wrong signature")]
    Signature,
}

/// Signs the end of a chain.
pub(super) fn sign(key: &Key, head: Head) -> String {
    let name = key.verifier().name();
    let body = format!(
        "{name}\n{}\n{}\n",
        head.sequence,
        STANDARD.encode(head.hash)
    );
    let mut signature = key.verifier().id().to_vec();
    signature.extend(key.sign(body.as_bytes()));
    format!(
        "{body}\n{SIGNATURE_MARK}{name} {}\n",
        STANDARD.encode(signature)
    )
}

/// Takes a text apart into the checkpoints that were written to it one after another. What is none
/// comes out too, and is refused by whoever reads it.
#[must_use]
pub fn notes(text: &str) -> Vec<String> {
    let (mut notes, mut note, mut signatures) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        let is_signature = line.starts_with(SIGNATURE_MARK);
        if signatures && !is_signature && !line.is_empty() {
            notes.push(std::mem::take(&mut note));
            signatures = false;
        }
        // Between two, and after the last: what a log puts there.
        let between = line.is_empty() && (note.is_empty() || signatures);
        if !between {
            note.push_str(line);
            note.push('\n');
        }
        signatures |= is_signature;
    }
    if !note.is_empty() {
        notes.push(note);
    }
    notes
}

/// Reads a checkpoint and checks its signature.
pub(super) fn open(note: &str, key: &VerifierKey) -> Result<Checkpoint, NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Form);
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Form)?;
    let (body, signatures) = note.split_at(end.saturating_add(1));
    let signatures = signatures
        .strip_prefix('\n')
        .and_then(|lines| lines.strip_suffix('\n'))
        .ok_or(NoteError::Form)?;
    let checkpoint = read(body, key)?;
    let mut signed = false;
    for line in signatures.split('\n') {
        let line = line.strip_prefix(SIGNATURE_MARK).ok_or(NoteError::Form)?;
        let (name, signature) = line.split_once(' ').ok_or(NoteError::Form)?;
        let Ok(bytes) = STANDARD.decode(signature) else {
            return Err(NoteError::Form);
        };
        let (id, signature) = bytes
            .split_at_checked(KEY_ID_BYTES)
            .ok_or(NoteError::Form)?;
        // Signatures of others, such as witnesses, are theirs to check.
        if name == key.name() && id == key.id() {
            key.check(body.as_bytes(), signature)
                .ok_or(NoteError::Signature)?;
            signed = true;
        }
    }
    if signed {
        Ok(checkpoint)
    } else {
        Err(NoteError::Unsigned)
    }
}

fn read(body: &str, key: &VerifierKey) -> Result<Checkpoint, NoteError> {
    let mut lines = body.split('\n');
    let mut line = || lines.next().ok_or(NoteError::Form);
    let (origin, size, root) = (line()?, line()?, line()?);
    if origin != key.name() {
        return Err(NoteError::Origin);
    }
    let sequence = size.parse::<u64>().ok();
    let sequence = sequence
        .filter(|number| number.to_string() == size)
        .ok_or(NoteError::Form)?;
    let root = STANDARD.decode(root).ok();
    let hash = root
        .and_then(|root| Hash::try_from(root).ok())
        .ok_or(NoteError::Form)?;
    Ok(Checkpoint { sequence, hash })
}
