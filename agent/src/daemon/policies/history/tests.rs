//! Sets kept, found, damaged, and changes that were cut short.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use super::{Entry, History, HistoryError, Note, Origin};
use crate::policy::bundle::Bundle;

fn bundle(text: &str) -> Bundle {
    let mut bundle = Bundle::default();
    bundle.insert("a.toml", text.as_bytes().to_vec()).unwrap();
    bundle
}

fn entry(bundle: &Bundle) -> Entry {
    Entry {
        digest: bundle.digest().to_string(),
        time: "2026-11-22T13:00:00.000000Z".to_owned(),
        origin: Origin::Push,
        uid: Some(0),
        tools: 1,
        rules: 0,
    }
}

fn keep(history: &mut History, text: &str) -> String {
    let bundle = bundle(text);
    history.put(&bundle, &bundle.digest()).unwrap();
    history.note(entry(&bundle)).unwrap();
    bundle.digest().to_string()
}

fn open(folder: &Path) -> History {
    History::open(folder, 3).unwrap()
}

#[test]
fn the_last_few_sets_are_kept_over_restarts_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path());
    let digests: Vec<String> = ["1", "2", "3", "4"]
        .iter()
        .map(|text| keep(&mut history, text))
        .collect();
    drop(history);
    let history = open(folder.path());
    let kept: Vec<&String> = history
        .entries()
        .iter()
        .map(|entry| &entry.digest)
        .collect();
    assert_eq!(kept, digests[1..].iter().collect::<Vec<_>>());
    assert_eq!(history.get(&digests[3]).unwrap(), bundle("4"));
    assert!(history.get(&digests[0]).is_err(), "the oldest went");
    let sets = folder.path().join("sets");
    assert_eq!(fs::read_dir(&sets).unwrap().count(), 3);
    for path in [sets.join(&digests[3]), folder.path().join("history.json")] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let mode = fs::metadata(&sets).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn sets_are_found_by_the_beginning_of_their_digest() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path());
    let one = keep(&mut history, "1");
    let two = keep(&mut history, "2");
    assert_eq!(history.find(&one[..12]).unwrap(), one);
    assert!(matches!(history.find(""), Err(HistoryError::Unknown(_))));
    assert!(matches!(history.find("xyz"), Err(HistoryError::Unknown(_))));
    assert_eq!(history.older(&two).unwrap(), one);
    // Back again, and the one before is the other.
    keep(&mut history, "1");
    assert_eq!(history.older(&one).unwrap(), two);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        open(empty.path()).older(""),
        Err(HistoryError::NoOlder)
    ));
}

#[test]
fn a_set_that_was_cut_changed_or_swapped_is_refused_and_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path());
    let digest = keep(&mut history, "version = 1");
    let other = keep(&mut history, "version = 2");
    let path = folder.path().join("sets").join(&digest);
    let whole = fs::read(&path).unwrap();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..end]).unwrap();
        let refused = history.get(&digest);
        assert!(
            matches!(refused, Err(HistoryError::Damaged { .. })),
            "cut at {end}"
        );
    }
    fs::copy(folder.path().join("sets").join(&other), &path).unwrap();
    assert!(matches!(
        history.get(&digest),
        Err(HistoryError::Damaged { error: None, .. })
    ));
    let bundle = bundle("version = 1");
    history.put(&bundle, &bundle.digest()).unwrap();
    assert_eq!(history.get(&digest).unwrap(), bundle);
    // A link is not followed, whoever made it.
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("elsewhere"), &whole).unwrap();
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    assert!(history.get(&digest).is_err());
}

#[test]
fn a_damaged_list_is_made_anew_from_the_sets() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path());
    let digest = keep(&mut history, "1");
    fs::write(folder.path().join("sets/cut"), "{").unwrap();
    for damage in ["", "[{", "[{\"digest\":1}]"] {
        fs::write(folder.path().join("history.json"), damage).unwrap();
        let history = open(folder.path());
        let found: Vec<(&str, Origin)> = history
            .entries()
            .iter()
            .map(|entry| (entry.digest.as_str(), entry.origin))
            .collect();
        assert_eq!(found, [(digest.as_str(), Origin::Found)], "{damage:?}");
        assert!(folder.path().join("history.damaged").exists());
    }
}

#[test]
fn a_change_leaves_a_note_until_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path());
    keep(&mut history, "1");
    let (new, place) = (bundle("2"), Path::new("/etc/x").to_owned());
    history.put(&new, &new.digest()).unwrap();
    let note = Note {
        folder: place,
        entry: entry(&new),
        before: None,
    };
    history.begin(&note).unwrap();
    // The agent is killed here.
    let mut history = open(folder.path());
    assert_eq!(history.entries().len(), 1, "it does not count yet");
    assert_eq!(history.begun().unwrap(), Some(note.clone()));
    history.finish_again(note.entry.clone()).unwrap();
    assert_eq!(history.begun().unwrap(), None);
    assert_eq!(history.entries().len(), 2);
    history.begin(&note).unwrap();
    history.abandon().unwrap();
    assert_eq!(history.begun().unwrap(), None);
    assert_eq!(open(folder.path()).entries().len(), 2);
}
