//! Servers that read files: one repository, one folder.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use lab::binary;
use serde_json::json;

use super::{example, folder, scene};

/// A repository with two commits whose configuration asks git to run a program.
fn repository(path: &Path) {
    folder(path);
    let git = |words: &[&str]| {
        let mut git = Command::new("/usr/bin/git");
        git.current_dir(path)
            .args(["-c", "user.name=A", "-c", "user.email=a@own.test"]);
        binary::output(git.args(words)).expect("git runs")
    };
    git(&["init", "-q", "-b", "main"]);
    for (text, message) in [("one\n", "first"), ("two\n", "second")] {
        fs::write(path.join("file"), text).expect("a file");
        git(&["add", "file"]);
        git(&["commit", "-q", "-m", message]);
    }
    fs::write(path.join("file"), "three\n").expect("a file");
}

#[test]
fn git_reads_its_repository_and_no_other() {
    let policy = example("git");
    // The same fence around a server that was not told to keep to one repository.
    let loose = policy
        .replace(
            ", \"--repository\", \"{scratch}/repositories/project\"]",
            "]",
        )
        .replace("tool = \"git\"", "tool = \"loose\"")
        .replace(
            "_VALUE_0 = \"{scratch}/repositories/project\"",
            "_VALUE_0 = \"*\"",
        );
    let control = loose
        .replace("tool = \"loose\"", "tool = \"control\"")
        .replace(
            "\"{scratch}/repositories/project\"]",
            "\"{scratch}/repositories\"]",
        );
    let policies = [("git", &policy), ("loose", &loose), ("control", &control)];
    let scene = scene(
        &policies.map(|(name, text)| (name, text.as_str())),
        |_, scratch| {
            let repositories = scratch.join("repositories");
            folder(&repositories);
            repository(&repositories.join("project"));
            repository(&repositories.join("other"));
        },
    );
    let repositories = scene.agent.scratch().path().join("repositories");
    let (project, other) = (repositories.join("project"), repositories.join("other"));
    let alice = scene.caller_of("alice", &["git:read"], &["--session-hash", "one"]);
    let of = |path: &Path| json!({"repo_path": path.display().to_string()});
    let with = |path: &Path, key: &str, value: &str| {
        let mut arguments = of(path);
        arguments[key] = value.into();
        arguments
    };
    let log = scene.told(&alice, ["git", "log"], of(&project));
    assert!(log.contains("first") && log.contains("second"), "{log}");
    let status = scene.told(&alice, ["git", "status"], of(&project));
    assert!(status.contains("modified:   file"), "{status}");
    let shown = scene.told(&alice, ["git", "show"], with(&project, "revision", "HEAD"));
    assert!(shown.contains("-one\n+two"), "{shown}");
    let shown = scene.told(
        &alice,
        ["git", "show"],
        with(&project, "revision", "HEAD~1:file"),
    );
    assert_eq!(shown, "one\n");
    let diff = scene.told(&alice, ["git", "diff"], with(&project, "target", "HEAD"));
    assert!(diff.contains("-two\n+three"), "{diff}");
    let option = alice.call(
        "git",
        "diff",
        with(&project, "target", "--output=/workdir/x"),
    );
    assert_eq!(option.reason(), "arguments_refused");

    // Another repository: the server refuses; one that would not finds nothing there.
    let refused = scene.failed(&alice, ["git", "log"], of(&other));
    assert!(refused.contains("outside the allowed"), "{refused}");
    let loosely = scene.told(&alice, ["loose", "log"], of(&project));
    assert!(loosely.contains("second"), "{loosely}");
    let refused = scene.failed(&alice, ["loose", "log"], of(&other));
    assert!(!refused.contains("second"), "{refused}");
    let reached = scene.told(&alice, ["control", "log"], of(&other));
    assert!(
        reached.contains("second"),
        "the control reaches it: {reached}"
    );
    scene.end();
}

/// A program that the repository's configuration names is run outside, and not in the fence.
#[test]
fn a_repository_has_git_run_nothing() {
    let policy = example("git");
    let scene = scene(&[("git", &policy)], |_, scratch| {
        folder(&scratch.join("repositories"));
        repository(&scratch.join("repositories/project"));
    });
    let project = scene.agent.scratch().path().join("repositories/project");
    let alice = scene.caller("alice", &["git:read"]);
    let program = project.join("steal");
    fs::write(&program, "#!/bin/sh\necho stolen\n").expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    let git = |words: &[&str]| {
        let mut git = Command::new("/usr/bin/git");
        binary::output(git.current_dir(&project).args(words)).expect("git runs")
    };
    git(&["config", "diff.external", &program.display().to_string()]);
    let control = git(&["diff", "HEAD"]);
    assert!(control.contains("stolen"), "the control runs it: {control}");
    let arguments = json!({"repo_path": project.display().to_string(), "target": "HEAD"});
    let refused = alice.call("git", "diff", arguments);
    assert_eq!(refused.status, 200, "{refused:?}");
    assert!(!refused.body.to_string().contains("stolen"), "{refused:?}");
    scene.end();
}

#[test]
fn filesystem_reads_its_folder_and_nothing_else() {
    let policy = example("filesystem");
    // The same fence around a server that was told it may serve everything.
    let wide = policy
        .replace("    \"{scratch}/documents\",\n]", "    \"/\",\n]")
        .replace("tool = \"filesystem\"", "tool = \"wide\"");
    assert!(wide.contains("\"/\",\n]"), "{wide}");
    let control = wide
        .replace("tool = \"wide\"", "tool = \"control\"")
        .replace(
            "\"{scratch}/documents\"]",
            "\"{scratch}/documents\", \"{scratch}/secret.txt\"]",
        );
    let policies = [
        ("filesystem", &policy),
        ("wide", &wide),
        ("control", &control),
    ];
    let scene = scene(
        &policies.map(|(name, text)| (name, text.as_str())),
        |_, scratch| {
            let documents = scratch.join("documents");
            folder(&documents);
            fs::write(documents.join("read.md"), "one\ntwo\n").expect("a file");
            fs::write(scratch.join("secret.txt"), "swordfish").expect("a file");
            let link = documents.join("link.md");
            std::os::unix::fs::symlink(scratch.join("secret.txt"), link).expect("a link");
        },
    );
    let scratch = scene.agent.scratch().path().to_owned();
    let documents = scratch.join("documents");
    let alice = scene.caller_of("alice", &["documents:read"], &["--session-hash", "one"]);
    let at = |path: &Path| json!({"path": path.display().to_string()});
    let read = scene.told(
        &alice,
        ["filesystem", "read"],
        at(&documents.join("read.md")),
    );
    assert_eq!(read, "one\ntwo\n");
    let listed = scene.told(&alice, ["filesystem", "list"], at(&documents));
    assert!(listed.contains("[FILE] read.md"), "{listed}");
    let mut pattern = at(&documents);
    pattern["pattern"] = "**/*.md".into();
    let found = scene.told(&alice, ["filesystem", "search"], pattern);
    assert!(found.contains("read.md"), "{found}");
    let write = alice.call("filesystem", "write", at(&documents));
    assert_eq!(write.reason(), "unknown_or_forbidden", "no such verb");

    let beside = [
        scratch.join("secret.txt"),
        documents.join("link.md"),
        "/etc/shadow".into(),
    ];
    for path in &beside {
        let refused = scene.failed(&alice, ["filesystem", "read"], at(path));
        assert!(!refused.contains("swordfish"), "{refused}");
        let refused = scene.failed(&alice, ["wide", "read"], at(path));
        assert!(
            !refused.contains("outside allowed"),
            "by the fence: {refused}"
        );
    }
    for path in &beside[..2] {
        let reached = scene.told(&alice, ["control", "read"], at(path));
        assert_eq!(reached, "swordfish", "the control reads it");
    }
    scene.end();
}
