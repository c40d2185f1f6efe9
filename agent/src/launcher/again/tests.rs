//! What is the same program still, and what is not.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::Again;
use crate::{
    launcher::protocol::Work,
    sandbox::{program::Found, sum::Identity},
};

struct Scene {
    folder: tempfile::TempDir,
    again: Again,
    root: OwnedFd,
}

fn command(words: &[&str]) -> Work {
    Work::Command(words.iter().map(OsString::from).collect())
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// `/tool` is a link to `/v1/tool` in a root of its own.
fn scene() -> Scene {
    let folder = tempfile::tempdir().expect("a folder");
    for version in ["v1", "v2"] {
        fs::create_dir(folder.path().join(version)).expect("a folder");
        write(&folder.path().join(version).join("tool"), version);
    }
    symlink("/v1/tool", folder.path().join("tool")).expect("a link");
    let file = File::open(folder.path().join("v1/tool")).expect("it is there");
    let found = Found {
        before: vec!["/bin/sh".into()],
        seen: vec![(
            PathBuf::from("/tool"),
            Identity::of(&file).expect("an identity"),
        )],
    };
    let again = Again::new(&command(&["/tool", "old"]), found, file.into()).expect("a command");
    let root = OwnedFd::from(File::open(folder.path()).expect("the root"));
    Scene {
        folder,
        again,
        root,
    }
}

impl Scene {
    fn arguments(&self, work: &Work) -> Option<Vec<String>> {
        let arguments = self.again.arguments(&self.root, work)?;
        let text = |word: &std::ffi::CString| word.to_str().expect("text").to_owned();
        Some(arguments.iter().map(text).collect())
    }

    fn is_known(&self) -> bool {
        self.arguments(&command(&["/tool"])).is_some()
    }
}

#[test]
fn the_same_program_with_other_arguments_is_known() {
    let scene = scene();
    let arguments = scene.arguments(&command(&["/tool", "new", "x"]));
    assert_eq!(
        arguments.expect("it is known"),
        ["/bin/sh", "/tool", "new", "x"]
    );
    assert!(scene.arguments(&command(&["/v1/tool"])).is_none());
    assert!(scene.arguments(&command(&[])).is_none());
    assert!(scene.arguments(&Work::SelfTest).is_none());
    let zero = Work::Command(vec!["/tool".into(), "a\0b".into()]);
    assert!(scene.arguments(&zero).is_none());
}

#[test]
fn whatever_changes_on_the_way_is_for_the_template() {
    let changes: [fn(&Path); 5] = [
        |root| {
            fs::remove_file(root.join("tool")).expect("it is there");
            symlink("/v2/tool", root.join("tool")).expect("a link");
        },
        |root| {
            fs::remove_file(root.join("v1/tool")).expect("it is there");
            write(&root.join("v1/tool"), "v1");
        },
        |root| write(&root.join("v1/tool"), "longer"),
        |root| {
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(root.join("v1/tool"), mode).expect("its mode");
        },
        |root| fs::remove_file(root.join("tool")).expect("it is there"),
    ];
    for change in changes {
        let scene = scene();
        assert!(scene.is_known());
        // A clock tick of the file system: two changes within one look alike.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change(scene.folder.path());
        assert!(!scene.is_known());
    }
}

#[test]
fn no_link_leads_out_of_the_root() {
    let scene = scene();
    let outside = tempfile::tempdir().expect("a folder");
    let same = outside.path().join("tool");
    fs::hard_link(scene.folder.path().join("v1/tool"), &same).expect("a link");
    // The very file, by a path of the host.
    fs::remove_file(scene.folder.path().join("tool")).expect("it is there");
    symlink(&same, scene.folder.path().join("tool")).expect("a link");
    assert!(!scene.is_known());
}
