//! Whatever is changed in a journal is found; a journal that is not changed is whole.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{Against, Error, Finding, Journal, VerifierKey, VerifyError, Whole, verify},
    CALLER, intent,
};
use crate::audit::{End, Outcome, Spent};

/// Bytes after which a file is closed: a few records.
const SEGMENT_BYTES: u64 = 2500;

/// A journal of several files, and their bytes.
struct Scene {
    folder: tempfile::TempDir,
    files: BTreeMap<PathBuf, Vec<u8>>,
    against: Against,
    /// A checkpoint from before the end.
    early: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal.jsonl");
        let mut early = String::new();
        for round in 0..3 {
            let (journal, _) = Journal::open_sized(&path, SEGMENT_BYTES).expect("journal");
            for number in 0..4 {
                let command = [format!("/bin/tool-{round}-{number}")];
                let receipt = journal.intent(&intent(&command)).expect("receipt");
                let outcome: Outcome<'_, ()> = Outcome {
                    end: End::Exit(0),
                    seconds: 1.5,
                    used: Spent::default(),
                    enforced: None,
                    output: None,
                    output_uncounted: false,
                    refused: &[],
                    events_missing: 0,
                };
                journal
                    .outcome(receipt.session(), &outcome)
                    .expect("outcome");
            }
            drop(journal);
            if round == 1 {
                let checkpoint = fs::read_to_string(folder.path().join("journal.checkpoint"));
                early = checkpoint.expect("checkpoint");
            }
        }
        assert_eq!(CALLER.pid, 7);
        let key = fs::read_to_string(folder.path().join("journal.pub")).expect("key");
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder.path()).expect("folder") {
            let path = entry.expect("entry").path();
            let extension = path.extension().and_then(|text| text.to_str());
            if matches!(extension, Some("jsonl" | "checkpoint")) {
                files.insert(path.clone(), fs::read(path).expect("file"));
            }
        }
        assert!(files.len() > 3, "{:?}", files.keys());
        let against = Against {
            key: Some(VerifierKey::read(&key).expect("key")),
            ..Against::default()
        };
        Self {
            folder,
            files,
            against,
            early,
        }
    }

    fn active(&self) -> PathBuf {
        self.folder.path().join("journal.jsonl")
    }

    fn segments(&self) -> Vec<&Path> {
        let paths = self.files.keys().map(PathBuf::as_path);
        // By name the active file is the last.
        paths
            .filter(|path| path.extension().is_some_and(|text| text == "jsonl"))
            .collect()
    }

    fn verify(&self) -> Result<Whole, VerifyError> {
        verify(&self.active(), &self.against)
    }

    /// What is found while the file holds something else.
    fn with(&self, path: &Path, bytes: &[u8]) -> VerifyError {
        fs::write(path, bytes).expect("write");
        let found = self.verify().expect_err("a finding");
        fs::write(path, &self.files[path]).expect("write");
        found
    }
}

#[test]
fn every_changed_missing_and_added_byte_is_found() {
    let scene = Scene::new();
    let whole = scene.verify().expect("whole");
    assert_eq!(whole.last, whole.signed);
    for (path, bytes) in &scene.files {
        for at in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
            for bit in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                let found = scene.with(path, &changed);
                assert!(matches!(found, VerifyError::Found(_)), "{found}");
            }
            let mut changed = bytes.clone();
            changed.remove(at);
            scene.with(path, &changed);
            changed.insert(at, b'\n');
            changed.insert(at, bytes[at]);
            scene.with(path, &changed);
            scene.with(path, &bytes[..at]);
            scene.with(path, &bytes[at + 1..]);
        }
    }
    assert_eq!(scene.verify().expect("whole"), whole);
}

#[test]
fn every_moved_doubled_and_missing_line_is_found() {
    let scene = Scene::new();
    for path in scene.segments() {
        let bytes = &scene.files[path];
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for at in 0..lines.len() {
            let mut without = lines.clone();
            let line = without.remove(at);
            scene.with(path, &without.concat());
            for to in 0..=without.len() {
                let mut moved = without.clone();
                moved.insert(to, line);
                if to != at {
                    scene.with(path, &moved.concat());
                }
                let mut doubled = lines.clone();
                doubled.insert(to, line);
                scene.with(path, &doubled.concat());
            }
        }
    }
}

#[test]
fn every_missing_and_exchanged_file_is_found() {
    let scene = Scene::new();
    let paths: Vec<&PathBuf> = scene.files.keys().collect();
    for path in &paths {
        fs::remove_file(path).expect("removed");
        scene.verify().expect_err("a finding");
        fs::write(path, &scene.files[*path]).expect("write");
        for other in paths.iter().filter(|other| *other != path) {
            scene.with(path, &scene.files[*other]);
        }
    }
    scene.verify().expect("whole");
}

#[test]
fn the_first_bad_place_is_told() {
    let scene = Scene::new();
    let path = scene.segments()[1];
    let text = String::from_utf8(scene.files[path].clone()).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let changed = lines[1].replace("\"time\":\"2", "\"time\":\"3");
    assert_ne!(changed, lines[1]);
    let found = scene.with(path, text.replace(lines[1], &changed).as_bytes());
    let VerifyError::Found(Finding::Line { path: told, place }) = found else {
        panic!("{found}");
    };
    // A changed line still follows; what comes after it does not.
    assert_eq!((told.as_path(), place.line), (path, 3));
    assert!(place.to_string().contains("does not follow"), "{place}");
    let found = scene.with(path, text.replace(lines[1], "{}").as_bytes());
    assert!(found.to_string().contains("line 2 (byte "), "{found}");
}

#[test]
fn a_journal_cut_back_together_with_its_checkpoint_needs_one_that_was_kept() {
    let mut scene = Scene::new();
    let last = scene.verify().expect("whole").last;
    let kept = fs::read_to_string(scene.folder.path().join("journal.checkpoint"));
    let kept = kept.expect("checkpoint");
    // An older checkpoint that was kept agrees with a journal that has grown.
    scene.against.checkpoints = vec![scene.early.clone(), kept];
    assert_eq!(scene.verify().expect("whole").signed, last);
    let early = scene.early.clone();
    let checkpoint = scene.folder.path().join("journal.checkpoint");
    fs::write(&checkpoint, &early).expect("write");
    scene.verify().expect("the kept one covers the end");
    let active = scene.active();
    fs::remove_file(&active).expect("removed");
    let found = scene.verify().expect_err("cut");
    assert!(
        matches!(found, VerifyError::Found(Finding::Cut { signed, .. }) if signed == last),
        "{found}"
    );
}

/// All that lies in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("folder");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths
        .map(|path| (path.clone(), fs::read(path).expect("file")))
        .collect()
}

#[test]
fn a_journal_cut_between_two_files_is_not_gone_on_from_without_its_checkpoint() {
    let scene = Scene::new();
    let checkpoint = scene.folder.path().join("journal.checkpoint");
    for path in [&scene.active(), &checkpoint] {
        fs::remove_file(path).expect("removed");
    }
    let segments = scene.segments();
    let last = segments[segments.len() - 2];
    let bytes = &scene.files[last];
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for kept in [bytes.clone(), lines[..lines.len() - 1].concat()] {
        fs::write(last, kept).expect("write");
        let before = contents(scene.folder.path());
        let opened = Journal::open(&scene.active());
        assert!(
            matches!(opened, Err(Error::NoCheckpoint(_))),
            "{:?}",
            opened.err()
        );
        assert_eq!(contents(scene.folder.path()), before);
    }
}

#[test]
fn another_key_is_another_journal() {
    let scene = Scene::new();
    let other = Scene::new();
    for name in ["journal.checkpoint", "journal.jsonl"] {
        let path = scene.folder.path().join(name);
        let bytes = &other.files[&other.folder.path().join(name)];
        scene.with(&path, bytes);
    }
    let against = Against {
        key: other.against.key.clone(),
        ..Against::default()
    };
    verify(&scene.active(), &against).expect_err("another key");
}

#[test]
fn files_that_were_taken_away_on_purpose_are_named() {
    let mut scene = Scene::new();
    let segments = scene.segments();
    let first = segments[0].to_owned();
    let line = scene.files[segments[1]].split(|byte| *byte == b'\n').next();
    let line: serde_json::Value = serde_json::from_slice(line.expect("a line")).expect("json");
    let from = line["sequence"].as_u64().expect("a number");
    fs::remove_file(&first).expect("removed");
    let found = scene.verify().expect_err("a finding");
    assert!(
        found.to_string().contains("earlier records are missing"),
        "{found}"
    );
    scene.against.from = Some(from);
    assert_eq!(scene.verify().expect("whole").first, from);
    scene.against.from = Some(from + 1);
    scene.verify().expect_err("another beginning");
}

#[test]
fn a_journal_that_never_was_is_not_one_whose_key_is_gone() {
    let scene = Scene::new();
    let folder = scene.folder.path();
    let told = |path: &Path, against: &Against| {
        let error = verify(path, against).expect_err("it can not be read");
        error
            .to_string()
            .replace(&folder.display().to_string(), "@")
    };
    let none = Against::default();
    let none_yet = |name: &str| {
        format!(
            "journal `@/{name}`: there is none yet\n\
             hint: the agent makes it when it starts; `--file` names another"
        )
    };
    for name in ["other.jsonl", "gone/journal.jsonl"] {
        assert_eq!(told(&folder.join(name), &none), none_yet(name));
    }
    let no_key = |name: &str| {
        format!("key `@/{name}`: is not there\nhint: `--key FILE`, the copy that was kept")
    };
    let held = Against {
        checkpoints: vec![scene.early.clone()],
        ..Against::default()
    };
    assert_eq!(
        told(&folder.join("other.jsonl"), &held),
        no_key("other.pub")
    );
    fs::remove_file(folder.join("journal.pub")).expect("removed");
    assert_eq!(told(&scene.active(), &none), no_key("journal.pub"));
    // What was removed but for its checkpoint was there.
    for path in scene.segments() {
        fs::remove_file(path).expect("removed");
    }
    assert_eq!(told(&scene.active(), &none), no_key("journal.pub"));
}
