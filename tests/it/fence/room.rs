//! A launcher of its own for a test, and sessions in it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use agent::{
    audit::{Caller, Intent, Journal},
    config::Instance,
    kernel::{
        Attached, Kernel, PolicyInForce,
        cgroup::{Parent, SessionCgroup, leftovers},
        remove_pins,
    },
    launcher::{Exit, LaunchError, LaunchRequest, Launcher, Place, Running, Work},
    policy::{
        self,
        compiled::{CompiledPolicy, Profile},
    },
    sandbox::Slipped,
};
use common::id::PolicyId;
use nix::unistd::pipe;

/// The slots under which the hooks know every session here, by whether its profile has unix sockets by
/// name: what else they decide is tested elsewhere.
const POLICY: PolicyId = PolicyId(1);
const INTERPRETER: PolicyId = PolicyId(2);

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
    hooks: Arc<Hooks>,
    folder: tempfile::TempDir,
    run_folder: PathBuf,
}

/// The kernel side: one for all rooms that are open at a time.
struct Hooks {
    instance: Instance,
    parent: Parent,
    _kernel: Kernel,
    attached: Attached,
    /// One for all: its record numbers are the session ids that the hooks know.
    journal: Journal,
    _folder: tempfile::TempDir,
}

/// A session that runs, and the threads that read what it writes.
pub(crate) struct Session {
    pub(crate) running: Running,
    pub(crate) cgroup: SessionCgroup,
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

/// Compiles a policy.
pub(crate) fn policy(text: &str) -> Arc<CompiledPolicy> {
    Arc::new(policy::compile("test.toml", text).expect("the policy compiles"))
}

/// Runs a test that wants a room.
pub(crate) fn with_room<T>(test: impl AsyncFnOnce(&Room) -> T) -> T {
    let binary = lab::binary::stockade().expect("the binary");
    with_room_of(&binary, test)
}

/// The same, with another launcher.
pub(crate) fn with_room_of<T>(binary: &Path, test: impl AsyncFnOnce(&Room) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let room = Room::new(binary);
        test(&room).await
    })
}

impl Hooks {
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Hooks>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hooks) = shared.upgrade() {
            return hooks;
        }
        let hooks = Arc::new(Self::new());
        *shared = Arc::downgrade(&hooks);
        hooks
    }

    fn new() -> Self {
        let instance = instance();
        let parent = Parent::create(&instance).expect("a cgroup (as root, with cgroup v2)");
        let kernel = Kernel::open(&instance, &parent).expect("the programs");
        let interpreter = format!("{USR}\n[syscalls]\nprofile = \"interpreter\"\n");
        let in_force = [(POLICY, USR), (INTERPRETER, &interpreter)].map(|(id, text)| {
            let policy = policy(text);
            PolicyInForce { id, policy }
        });
        let synced = kernel.sync(&in_force).expect("policies in force");
        let attached = kernel.attach(&parent, &synced).expect("the hooks");
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, _) = Journal::open(&folder.path().join("journal")).expect("a journal");
        Self {
            instance,
            parent,
            _kernel: kernel,
            attached,
            journal,
            _folder: folder,
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for session in leftovers(&self.parent).into_iter().flatten() {
            session.kill().expect("its processes");
            session.remove().expect("its cgroup");
        }
        remove_pins(&self.instance).expect("its pins");
        fs::remove_dir(self.parent.path()).expect("the parent cgroup");
    }
}

fn instance() -> Instance {
    static INSTANCES: AtomicU64 = AtomicU64::new(0);
    let number = INSTANCES.fetch_add(1, Ordering::Relaxed);
    Instance::new(&format!("fence-{}-{number}", std::process::id())).expect("an instance name")
}

impl Room {
    fn new(binary: &Path) -> Self {
        let instance = instance();
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        Self {
            launcher: Launcher::start_from(binary, &instance).expect("a launcher (as root)"),
            hooks: Hooks::shared(),
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
        let work = Work::Command(command.iter().map(OsString::from).collect());
        self.begin(policy, work, input, &self.hooks.parent).await
    }

    /// Tests the fence of a policy under the hooks.
    pub(crate) async fn self_test(&self, policy: &Arc<CompiledPolicy>) -> Slipped {
        self.self_test_below(policy, &self.hooks.parent).await
    }

    /// Tests the fence of a policy, its cgroup under this parent.
    pub(crate) async fn self_test_below(
        &self,
        policy: &Arc<CompiledPolicy>,
        parent: &Parent,
    ) -> Slipped {
        let null = File::open("/dev/null").expect("the null device");
        let session = self
            .begin(policy, Work::SelfTest, null.into(), parent)
            .await
            .expect("a session");
        let cgroup = session.cgroup.path().to_owned();
        let ended = session.end().await;
        fs::remove_dir(cgroup).expect("nothing is left in it");
        Slipped::reported(ended.exit).unwrap_or_else(|| panic!("no report: {ended:?}"))
    }

    async fn begin(
        &self,
        policy: &Arc<CompiledPolicy>,
        work: Work,
        input: OwnedFd,
        parent: &Parent,
    ) -> Result<Session, LaunchError> {
        let intent = Intent {
            tool: policy.tool.as_str(),
            policy: &policy.digest.to_string(),
            command: &[],
            caller: Caller {
                uid: 0,
                gid: 0,
                pid: 0,
            },
        };
        let Hooks {
            attached, journal, ..
        } = &*self.hooks;
        let receipt = journal.intent(&intent).expect("a receipt");
        let session = receipt.session();
        let vacant = parent.vacant(&policy.limits).expect("a cgroup");
        let place = Place {
            cgroup: vacant.fd(),
            measures: vacant.measures(),
        };
        let seat = self.launcher.reserve(policy, place).await?;
        let cgroup = vacant.give_to(session).expect("a cgroup");
        let in_force = match policy.syscalls.profile {
            Profile::Interpreter => INTERPRETER,
            Profile::Default | Profile::Strict => POLICY,
        };
        let admitted = attached
            .admit(session, cgroup.id(), in_force)
            .expect("an entry");
        let (stdout, out) = pipe().expect("a pipe");
        let (stderr, err) = pipe().expect("a pipe");
        let request = LaunchRequest {
            seat,
            work,
            stdio: [input, out, err],
            admitted,
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
        drop(fs::remove_dir_all(&self.run_folder));
    }
}

fn read_all(pipe: OwnedFd) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(pipe).read_to_end(&mut bytes).expect("output");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
