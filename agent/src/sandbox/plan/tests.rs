//! What a plan takes from a policy besides its paths.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{Plan, landlock::ABI_TCP};
use crate::{config::Instance, policy::compile, sys};

const RULE: &str = "[[egress.allow]]\ncidr = \"8.8.8.8/32\"\nports = [443]\n";

fn shuts_tcp(mode: &str, egress: &str) -> bool {
    let text = format!(
        "version = 1\ntool = \"t\"\nmode = \"{mode}\"\n{egress}\
         [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
         [filesystem]\nexecute = [\"/usr/bin\"]\n"
    );
    let policy = compile("t.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let instance = Instance::stand_alone(std::process::id());
    let plan = Plan::new(&instance, &policy).expect("a plan");
    plan.landlock.no_tcp
}

/// What landlock refuses nobody reports: it must not refuse what is only observed.
#[test]
fn landlock_shuts_tcp_only_where_nothing_is_to_be_seen() {
    let knows_tcp = sys::landlock::abi().is_ok_and(|abi| abi >= ABI_TCP);
    assert_eq!(shuts_tcp("enforce", ""), knows_tcp);
    for (mode, egress) in [("observe", ""), ("observe", RULE), ("enforce", RULE)] {
        assert!(!shuts_tcp(mode, egress), "{mode} {egress}");
    }
}

/// Changes after which another thing lies at a listed path, `file` or the link `current`.
const CHANGES: [fn(&Path); 4] = [
    |root| {
        fs::write(root.join("new"), "").expect("a file");
        fs::rename(root.join("new"), root.join("file")).expect("it is replaced");
    },
    |root| fs::remove_file(root.join("file")).expect("it is there"),
    |root| {
        fs::remove_file(root.join("current")).expect("it is there");
        symlink("v2", root.join("current")).expect("a link");
    },
    |root| {
        fs::rename(root.join("v1"), root.join("aside")).expect("it is there");
        fs::create_dir(root.join("v1")).expect("a folder");
    },
];

#[test]
fn a_plan_is_current_as_long_as_the_same_lies_at_each_path() {
    for (number, change) in CHANGES.into_iter().enumerate() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let root = folder.path();
        fs::write(root.join("file"), "").expect("a file");
        for release in ["v1", "v2"] {
            fs::create_dir(root.join(release)).expect("a folder");
        }
        symlink("v1", root.join("current")).expect("a link");
        let text = format!(
            "version = 1\ntool = \"t\"\n\
             [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
             [filesystem]\nread = [\"{0}/file\", \"{0}/current\"]\nexecute = [\"/usr/bin\"]\n",
            root.display()
        );
        let policy = compile("t.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        let instance = Instance::stand_alone(std::process::id());
        let plan = Plan::new(&instance, &policy).expect("a plan");
        // The control: what is in them is theirs.
        fs::write(root.join("file"), "more").expect("the file");
        fs::write(root.join("v1/more"), "").expect("a file");
        assert!(plan.is_current(&policy.filesystem));
        change(root);
        assert!(!plan.is_current(&policy.filesystem), "change {number}");
    }
}
