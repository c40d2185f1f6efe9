//! Pins: what a policy runs is what it was when it was pinned, or nothing runs.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use agent::{
    launcher::LaunchError,
    policy::{compiled::CompiledPolicy, store},
};

use crate::fence::room::{Room, with_room};

/// A tool that is a script with a library, and its policy.
struct Tool {
    folder: PathBuf,
    policy: PathBuf,
}

impl Tool {
    fn new(room: &Room) -> Self {
        let folder = room.shared("tool");
        fs::create_dir_all(folder.join("lib/inner")).expect("a folder");
        write(
            &folder.join("run"),
            "#!/usr/bin/sh\ncat \"$(dirname \"$0\")/lib/inner/data\"\n",
        );
        write(&folder.join("lib/inner/data"), "data\n");
        symlink("inner", folder.join("lib/link")).expect("a link");
        let policy = room.shared("policies").join("tool.toml");
        let text = format!(
            "version = 1\ntool = \"tool\"\n[worker]\ncommand = [\"{0}/run\"]\n\
             [filesystem]\nread = [\"/usr\"]\nexecute = [\"/usr\", \"{0}\"]\n",
            folder.display()
        );
        fs::write(&policy, text).expect("the policy");
        Self { folder, policy }
    }

    fn lock(&self) -> String {
        fs::read_to_string(store::lock_path(&self.policy)).expect("a lock file")
    }

    fn read(&self) -> Arc<CompiledPolicy> {
        Arc::new(store::read_file(&self.policy).expect("the policy compiles"))
    }

    fn program(&self) -> String {
        self.folder.join("run").display().to_string()
    }

    async fn runs(&self, room: &Room) {
        let ended = room.run(&self.read(), &[&self.program()]).await;
        assert_eq!(ended.stdout, "data\n", "{ended:?}");
    }

    /// The refusal, and that the command line says the same.
    async fn refused(&self, room: &Room, path: &str) -> String {
        let started = room.start(&self.read(), &[&self.program()]).await.map(drop);
        let Err(error @ LaunchError::Step(_)) = started else {
            panic!("what changed was started: {started:?}");
        };
        let checked = pin(&[OsStr::new("--check"), self.policy.as_os_str()]);
        assert_eq!(checked.status.code(), Some(1), "{checked:?}");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(said.contains(path), "{said}");
        let check = stockade(&[OsStr::new("check"), self.policy.as_os_str()]);
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(
            said.contains("not as pinned") && said.contains(path),
            "{said}"
        );
        error.to_string()
    }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn stockade(words: &[&OsStr]) -> Output {
    let mut command = Command::new(lab::binary::stockade().expect("the binary"));
    let output = command.arg("policy").args(words).output();
    output.expect("the binary runs")
}

fn pin(words: &[&OsStr]) -> Output {
    stockade(&[&[OsStr::new("pin")], words].concat())
}

#[test]
fn a_lock_file_holds_what_runs_and_every_change_is_refused() {
    with_room(async |room| {
        let tool = Tool::new(room);
        let lib = tool.folder.join("lib");
        let words = [
            tool.policy.as_os_str(),
            OsStr::new("--also"),
            lib.as_os_str(),
        ];
        let done = pin(&words);
        assert!(done.status.success(), "{done:?}");
        let lock = tool.lock();
        for line in [
            format!(
                "path = \"{}\"\nkind = \"file\"\nrole = \"program\"",
                tool.program()
            ),
            format!(
                "path = \"{}\"\nkind = \"directory\"\nrole = \"asked\"",
                lib.display()
            ),
            "path = \"/usr/bin/sh\"\nkind = \"file\"\nrole = \"interpreter\"".to_owned(),
        ] {
            assert!(lock.contains(&line), "{line}\nnot in\n{lock}");
        }
        assert!(lock.contains("/ld-"), "the shell's loader is not in {lock}");
        // What was asked for stays, and the same files make the same text.
        assert!(pin(&[tool.policy.as_os_str()]).status.success());
        assert_eq!(tool.lock(), lock);
        tool.runs(room).await;
        tool.runs(room).await;

        let data = lib.join("inner/data");
        write(&data, "DATA\n");
        let error = tool.refused(room, &lib.display().to_string()).await;
        let sum = lock.split(&format!("path = \"{}\"", lib.display())).nth(1);
        let sum = sum.and_then(|rest| rest.split('"').nth(5)).expect("a sum");
        assert!(
            error.contains("pinned folder") && error.contains(sum),
            "{error}"
        );
        assert!(error.contains("hint: "), "{error}");
        write(&data, "data\n");
        tool.runs(room).await;

        let extra = lib.join("inner/extra");
        write(&extra, "");
        tool.refused(room, "/lib`").await;
        fs::remove_file(&extra).expect("gone");
        tool.runs(room).await;

        fs::set_permissions(&data, fs::Permissions::from_mode(0o644)).expect("its mode");
        tool.refused(room, "/lib`").await;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("its mode");
        tool.runs(room).await;

        fs::remove_file(lib.join("link")).expect("gone");
        symlink("inner/data", lib.join("link")).expect("a link");
        tool.refused(room, "/lib`").await;

        // Whoever wants the change says so.
        assert!(pin(&[tool.policy.as_os_str()]).status.success());
        assert_ne!(tool.lock(), lock);
        tool.runs(room).await;
    });
}

#[test]
fn a_program_that_was_replaced_is_refused_whatever_its_times_say() {
    with_room(async |room| {
        let tool = Tool::new(room);
        let program = tool.folder.join("run");
        assert!(pin(&[tool.policy.as_os_str()]).status.success());
        tool.runs(room).await;
        // Old enough for its sum to be kept.
        std::thread::sleep(std::time::Duration::from_millis(3_100));
        tool.runs(room).await;
        tool.runs(room).await;
        let times = fs::metadata(&program)
            .expect("its times")
            .modified()
            .expect("a time");
        let other = tool.folder.join("other");
        let same_size = fs::read_to_string(&program)
            .expect("text")
            .replace("cat", "tac");
        write(&other, &same_size);
        let file = fs::File::options()
            .write(true)
            .open(&other)
            .expect("a file");
        file.set_modified(times).expect("its time");
        fs::rename(&other, &program).expect("replaced");
        let error = tool.refused(room, "/run`").await;
        assert!(error.contains("pinned file"), "{error}");
        // In place, size and time as before.
        let text = same_size.replace("tac", "cat");
        fs::write(&program, &text).expect("a file");
        tool.runs(room).await;
        fs::write(&program, &same_size).expect("a file");
        let file = fs::File::options()
            .write(true)
            .open(&program)
            .expect("a file");
        file.set_modified(times).expect("its time");
        tool.refused(room, "/run`").await;
    });
}

#[test]
fn a_lock_that_is_wanted_is_needed() {
    with_room(async |room| {
        let tool = Tool::new(room);
        let text = fs::read_to_string(&tool.policy).expect("text");
        let text = text.replace("[worker]\n", "[worker]\nlock = \"required\"\n");
        fs::write(&tool.policy, text).expect("the policy");
        let error = store::read_file(&tool.policy)
            .expect_err("no lock")
            .to_string();
        assert!(
            error.contains("`lock = \"required\"`") && error.contains("hint: "),
            "{error}"
        );
        let check = stockade(&[OsStr::new("check"), tool.policy.as_os_str()]);
        assert_eq!(check.status.code(), Some(1), "{check:?}");
        let checked = pin(&[OsStr::new("--check"), tool.policy.as_os_str()]);
        assert_eq!(checked.status.code(), Some(65), "{checked:?}");
        assert!(pin(&[tool.policy.as_os_str()]).status.success());
        tool.runs(room).await;
        let folder = tool.policy.parent().expect("a folder");
        assert_eq!(store::read_directory(folder).expect("a set").len(), 1);
        let lock = store::lock_path(&tool.policy);
        fs::write(&lock, tool.lock().replace("version = 1", "version = 7")).expect("a lock");
        let error = store::read_directory(folder)
            .expect_err("a bad lock")
            .to_string();
        assert!(error.contains("version 7 is unknown"), "{error}");
    });
}

#[test]
fn what_can_not_be_pinned_leaves_no_lock() {
    with_room(async |room| {
        let tool = Tool::new(room);
        let pipe = tool.folder.join("lib/pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let lib = tool.folder.join("lib");
        for path in [lib.as_path(), pipe.as_path(), Path::new("/nonexistent")] {
            let done = pin(&[
                tool.policy.as_os_str(),
                OsStr::new("--also"),
                path.as_os_str(),
            ]);
            assert_eq!(done.status.code(), Some(1), "{done:?}");
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(said.contains(&path.display().to_string()), "{said}");
            assert!(!store::lock_path(&tool.policy).exists());
        }
        let checked = pin(&[OsStr::new("--check"), tool.policy.as_os_str()]);
        assert_eq!(checked.status.code(), Some(1), "{checked:?}");
        assert!(String::from_utf8_lossy(&checked.stdout).contains("no lock file"));
    });
}
