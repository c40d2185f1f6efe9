//! A launcher of its own for a test, and sessions in it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use agent::{
    audit::{Caller, Intent, Journal},
    config::Instance,
    launcher::{Exit, LaunchError, LaunchRequest, Launcher, Running},
    policy::{self, compiled::CompiledPolicy},
};
use nix::unistd::pipe;

/// What an ordinary program needs.
pub(crate) const USR: &str = r#"
version = 1
tool = "fence-test"
[filesystem]
read = ["/usr", "/etc/ssl"]
execute = ["/usr"]
"#;

/// How a session ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Everything that a test's sessions share.
pub(crate) struct Room {
    pub(crate) launcher: Launcher,
    cgroup: PathBuf,
    journal: Journal,
    folder: tempfile::TempDir,
    run_folder: PathBuf,
}

/// A session that runs, and the threads that read what it writes.
pub(crate) struct Session {
    pub(crate) running: Running,
    pub(crate) cgroup: PathBuf,
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

/// Compiles a policy.
pub(crate) fn policy(text: &str) -> Arc<CompiledPolicy> {
    Arc::new(policy::compile("test.toml", text).expect("the policy compiles"))
}

/// Runs a test that wants a room.
pub(crate) fn with_room<T>(test: impl AsyncFnOnce(&Room) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let room = Room::new();
        test(&room).await
    })
}

impl Room {
    fn new() -> Self {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let name = format!("fence-{}-{number}", std::process::id());
        let instance = Instance::new(&name).expect("an instance name");
        let cgroup = cgroup2().join(&name);
        fs::create_dir(&cgroup).expect("a cgroup (as root, with cgroup v2)");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let (journal, _) = Journal::open(&folder.path().join("journal")).expect("a journal");
        let binary = Path::new(env!("CARGO_BIN_EXE_stockade"));
        Self {
            launcher: Launcher::start_from(binary, &instance).expect("a launcher (as root)"),
            cgroup,
            journal,
            folder,
            run_folder: instance.run_folder(),
        }
    }

    /// A folder that every worker may enter, and that goes with the room.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for folder in [self.folder.path(), &folder] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        folder
    }

    /// Starts a session.
    pub(crate) async fn start(
        &self,
        policy: &Arc<CompiledPolicy>,
        command: &[&str],
    ) -> Result<Session, LaunchError> {
        let null = File::open("/dev/null").expect("the null device");
        self.start_with(policy, command, null.into()).await
    }

    /// Starts a session with this standard input.
    pub(crate) async fn start_with(
        &self,
        policy: &Arc<CompiledPolicy>,
        command: &[&str],
        input: OwnedFd,
    ) -> Result<Session, LaunchError> {
        let text: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        let intent = Intent {
            tool: policy.tool.as_str(),
            policy: &policy.digest.to_string(),
            command: &text,
            caller: Caller {
                uid: 0,
                gid: 0,
                pid: 0,
            },
        };
        let receipt = self.journal.intent(&intent).expect("a receipt");
        let cgroup = self.cgroup.join(receipt.session().to_string());
        fs::create_dir(&cgroup).expect("a cgroup");
        let (stdout, out) = pipe().expect("a pipe");
        let (stderr, err) = pipe().expect("a pipe");
        let request = LaunchRequest {
            session: receipt.session(),
            policy: Arc::clone(policy),
            command: command.iter().map(OsString::from).collect(),
            stdio: [input, out, err],
            cgroup: File::open(&cgroup).expect("the cgroup").into(),
            memory_counted: false,
            cgroup_measures: Vec::new(),
            receipt,
        };
        let running = self.launcher.launch(request).await?;
        Ok(Session {
            running,
            cgroup,
            stdout: read_all(stdout),
            stderr: read_all(stderr),
        })
    }

    /// Runs a session to its end.
    pub(crate) async fn run(&self, policy: &Arc<CompiledPolicy>, command: &[&str]) -> Outcome {
        match self.start(policy, command).await {
            Ok(session) => session.end().await,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    /// Runs a shell script to its end.
    pub(crate) async fn sh(&self, policy: &Arc<CompiledPolicy>, script: &str) -> Outcome {
        self.run(policy, &["/usr/bin/sh", "-c", script]).await
    }

    /// Runs a Python program to its end.
    pub(crate) async fn python(&self, policy: &Arc<CompiledPolicy>, program: &str) -> Outcome {
        self.run(policy, &["/usr/bin/python3", "-c", program]).await
    }
}

impl Session {
    /// Waits for the end.
    pub(crate) async fn end(mut self) -> Outcome {
        let exit = self.running.wait().await.expect("an exit");
        self.running.gone().await.expect("the namespace's end");
        Outcome {
            exit,
            stdout: self.stdout.join().expect("a reader"),
            stderr: self.stderr.join().expect("a reader"),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for session in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
            if session.path().is_dir() {
                remove_cgroup(&session.path());
            }
        }
        remove_cgroup(&self.cgroup);
        drop(fs::remove_dir_all(&self.run_folder));
    }
}

fn remove_cgroup(path: &Path) {
    for _ in 0..200 {
        if fs::remove_dir(path).is_ok() {
            return;
        }
        drop(fs::write(path.join("cgroup.kill"), "1"));
        thread::sleep(std::time::Duration::from_millis(10));
    }
    eprintln!("cgroup {} not removed", path.display());
}

fn read_all(pipe: OwnedFd) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(pipe).read_to_end(&mut bytes).expect("output");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    mount.expect("cgroup v2")
}
