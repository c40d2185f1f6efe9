//! A set written into a folder, and taken back.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use super::{holds, stage, sweep};
use crate::policy::bundle::Bundle;

fn bundle(files: &[(&str, &str)]) -> Bundle {
    let mut bundle = Bundle::default();
    for (name, text) in files {
        bundle.insert(name, text.as_bytes().to_vec()).unwrap();
    }
    bundle
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            for (below, text) in files(&entry.path()) {
                found.insert(format!("{name}/{below}"), text);
            }
        } else {
            found.insert(name, fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    found
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

const OLD: &[(&str, &str)] = &[
    ("a.toml", "old a"),
    ("a.lock.toml", "lock of a"),
    ("b.toml", "b"),
    ("gone.toml", "gone"),
    ("schemas/gone.json", "{}"),
];
const NEW: &[(&str, &str)] = &[
    ("a.toml", "new a"),
    ("b.toml", "b"),
    ("c.toml", "c"),
    ("c.lock.toml", "lock of c"),
    ("schemas/c/go.json", "{}"),
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut staged = stage(folder.path(), &bundle(OLD), &Bundle::default()).unwrap();
    staged.exchange().unwrap();
    staged.keep();
    fs::write(folder.path().join("README"), "mine").unwrap();
    folder
}

fn with_readme(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut all = texts(pairs);
    all.insert("README".to_owned(), "mine".to_owned());
    all
}

#[test]
fn the_folder_holds_one_set_or_the_other() {
    let folder = folder();
    let (old, new) = (bundle(OLD), bundle(NEW));
    assert!(holds(folder.path(), &old));
    fs::set_permissions(
        folder.path().join("a.toml"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let mut staged = stage(folder.path(), &new, &old).unwrap();
    assert!(holds(folder.path(), &old), "only beside it so far");
    staged.exchange().unwrap();
    staged.keep();
    assert_eq!(files(folder.path()), with_readme(NEW));
    assert!(holds(folder.path(), &new));
    let mode = |name: &str| {
        let metadata = fs::metadata(folder.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("a.toml"), 0o640, "as hidden as it was");
    assert_eq!(mode("c.toml"), 0o644);
}

#[test]
fn what_was_exchanged_can_be_taken_back() {
    let folder = folder();
    let (old, new) = (bundle(OLD), bundle(NEW));
    let mut staged = stage(folder.path(), &new, &old).unwrap();
    staged.exchange().unwrap();
    staged.take_back();
    assert_eq!(files(folder.path()), with_readme(OLD));
    drop(stage(folder.path(), &new, &old).unwrap());
    assert_eq!(files(folder.path()), with_readme(OLD), "never carried out");
}

#[test]
fn a_file_that_can_not_take_its_place_leaves_everything_as_it_was() {
    let folder = folder();
    fs::create_dir(folder.path().join("c.toml")).unwrap();
    let before = files(folder.path());
    let mut staged = stage(folder.path(), &bundle(NEW), &bundle(OLD)).unwrap();
    let refused = staged.exchange().unwrap_err().to_string();
    assert!(refused.contains("c.toml"), "{refused}");
    drop(staged);
    assert_eq!(files(folder.path()), before);
}

#[test]
fn links_are_replaced_and_never_written_through() {
    let (folder, outside) = (folder(), tempfile::tempdir().unwrap());
    let target = outside.path().join("target");
    fs::write(&target, "not ours").unwrap();
    fs::remove_file(folder.path().join("a.toml")).unwrap();
    symlink(&target, folder.path().join("a.toml")).unwrap();
    symlink(&target, folder.path().join(".c.toml.coming")).unwrap();
    let mut staged = stage(folder.path(), &bundle(NEW), &bundle(OLD)).unwrap();
    staged.exchange().unwrap();
    staged.keep();
    assert_eq!(fs::read_to_string(&target).unwrap(), "not ours");
    assert_eq!(files(folder.path()), with_readme(NEW));
    let other = tempfile::tempdir().unwrap();
    symlink(outside.path(), other.path().join("schemas")).unwrap();
    assert!(stage(other.path(), &bundle(NEW), &Bundle::default()).is_err());
    assert!(!outside.path().join("c/go.json").exists());
}

#[test]
fn a_folder_that_differs_in_anything_is_not_that_set() {
    let old = bundle(OLD);
    let differs = |change: &dyn Fn(&Path)| {
        let folder = folder();
        change(folder.path());
        assert!(!holds(folder.path(), &old));
    };
    differs(&|folder| fs::write(folder.join("a.toml"), "old A").unwrap());
    differs(&|folder| fs::write(folder.join("d.toml"), "d").unwrap());
    differs(&|folder| fs::write(folder.join("b.lock.toml"), "").unwrap());
    differs(&|folder| fs::remove_file(folder.join("gone.toml")).unwrap());
    differs(&|folder| fs::remove_file(folder.join("a.lock.toml")).unwrap());
    differs(&|folder| fs::write(folder.join("schemas/gone.json"), "[]").unwrap());
}

#[test]
fn leftovers_of_a_change_that_was_cut_short_are_swept() {
    let folder = folder();
    for name in [".a.toml.coming", ".b.toml.leaving", ".mine"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    sweep(folder.path());
    let left = files(folder.path());
    assert!(
        left.contains_key(".mine") && left.len() == OLD.len() + 2,
        "{left:?}"
    );
}
