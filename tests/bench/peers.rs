//! Others that start a program in a fence, as they are used to run untrusted tools: each with its
//! own root, namespaces and no network, as far as it can. Whoever does not start here says why.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use lab::{binary::Scratch, netns::Netns};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::json;

/// Where the list of peers lies that no package of Debian has.
const LIST: &str = "STOCKADE_BENCH_PEERS";
/// In an argument: a number that no other launch has.
const NUMBER: &str = "{number}";

/// Gives each launch a number.
static LAUNCHES: AtomicU32 = AtomicU32::new(0);

/// A way to start a static program that does nothing but say when it was started.
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: &'static str,
    /// Program and arguments.
    argv: Vec<OsString>,
    /// Its folder of settings, where it wants one: a variable's name, and the folder.
    home: Option<(&'static str, PathBuf)>,
    /// Whether it works with nothing but cgroup v2 where a host has both versions.
    unified: bool,
    /// What a launch takes, from the second one on, about.
    pub(crate) takes: Duration,
    /// Why it can not be measured here.
    pub(crate) missing: Option<String>,
}

/// What one launch gave.
pub(crate) struct Launched {
    /// When it was asked for and when it was over, on the clock of the whole host.
    pub(crate) asked: SystemTime,
    pub(crate) ended: SystemTime,
    /// What the program said: nanoseconds of the same clock.
    pub(crate) stamp: u64,
}

impl Peer {
    /// Launches once. An error says what it complained of.
    pub(crate) fn launch(&self, netns: &Netns) -> Result<Launched> {
        let mut command = self.command();
        let (asked, output, ended) = netns.enter(|| {
            if self.unified {
                show_cgroup_v2_alone()?;
            }
            let asked = SystemTime::now();
            anyhow::Ok((asked, command.output(), SystemTime::now()))
        })??;
        let output = output.context("it can not be started")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let stamp = text.lines().last().unwrap_or_default().trim().parse();
        match stamp {
            Ok(stamp) if output.status.success() => Ok(Launched {
                asked,
                ended,
                stamp,
            }),
            _ => {
                let told = String::from_utf8_lossy(&output.stderr);
                let last = told.lines().rev().find(|line| !line.trim().is_empty());
                bail!("{}: {}", output.status, last.unwrap_or("says nothing"))
            }
        }
    }

    fn command(&self) -> Command {
        let number = LAUNCHES.fetch_add(1, Ordering::Relaxed).to_string();
        let mut words = self.argv.iter().map(|word| match word.to_str() {
            Some(text) => text.replace(NUMBER, &number).into(),
            None => word.clone(),
        });
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::null());
        if let Some((variable, folder)) = &self.home {
            command.env(variable, folder);
        }
        command
    }

    /// Starts it twice, the first time with cold caches; a failure is why it is missing.
    fn tried(mut self, netns: &Netns) -> Self {
        if self.missing.is_none() {
            let launched = self.launch(netns).and_then(|_cold| self.launch(netns));
            match launched {
                Ok(launched) => {
                    let took = launched.ended.duration_since(launched.asked);
                    self.takes = took.unwrap_or_default();
                }
                Err(error) => self.missing = Some(format!("{error:#}")),
            }
        }
        self
    }
}

/// Gives this thread, and what it starts, a view of the host in which version 1 of cgroups is not
/// mounted. Before the clock of a launch runs.
fn show_cgroup_v2_alone() -> Result<()> {
    const ALL: &str = "/sys/fs/cgroup";
    const SECOND: &str = "/sys/fs/cgroup/unified";
    if !Path::new(SECOND).is_dir() {
        return Ok(());
    }
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(SECOND), ALL, none, MsFlags::MS_BIND, none)?;
    Ok(())
}

/// All that are known, each tried once. Plain fork and exec is the floor.
pub(crate) fn peers(netns: &Netns, scratch: &Scratch, program: &Path) -> Result<Vec<Peer>> {
    let bundle = bundle(&scratch.path().join("crun"), program)?;
    let built = built()?;
    let all = [
        of_debian("fork+exec", &words(program, &[])),
        of_debian("bubblewrap", &bubblewrap(program)),
        of_debian("firejail", &firejail(program)),
        Peer {
            unified: true,
            ..of_debian("crun", &crun(&bundle))
        },
        of_list(&built, "nsjail", &nsjail(program)),
        of_list(&built, "sandlock", &sandlock(program)),
        of_list(&built, "hakoniwa", &hakoniwa(program)),
        of_list(&built, "srt", &words(program, &[])),
        codex(&built, program)?,
    ];
    Ok(all.map(|peer| peer.tried(netns)).into())
}

fn of_debian(name: &'static str, argv: &[OsString]) -> Peer {
    Peer {
        name,
        argv: argv.to_vec(),
        home: None,
        unified: false,
        takes: Duration::ZERO,
        missing: None,
    }
}

/// A peer whose program the set-up of the bench has brought, or why it could not.
fn of_list(
    built: &HashMap<String, Result<PathBuf, String>>,
    name: &'static str,
    arguments: &[OsString],
) -> Peer {
    let program = built.get(name).cloned();
    let program = program.unwrap_or_else(|| Err("not set up (hint: cargo xtask bench)".to_owned()));
    let (program, missing) = match program {
        Ok(program) => (program, None),
        Err(why) => (PathBuf::new(), Some(why)),
    };
    Peer {
        name,
        argv: std::iter::once(program.into())
            .chain(arguments.iter().cloned())
            .collect(),
        home: None,
        unified: false,
        takes: Duration::ZERO,
        missing,
    }
}

/// What the set-up of the bench has written of each.
pub(crate) fn built() -> Result<HashMap<String, Result<PathBuf, String>>> {
    let Some(file) = std::env::var_os(LIST) else {
        return Ok(HashMap::new());
    };
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let line = |line: &str| {
        let (name, rest) = line.split_once('\t')?;
        let outcome = match rest.split_once('\t')? {
            ("ok", program) => Ok(program.into()),
            (_, why) => Err(why.to_owned()),
        };
        Some((name.to_owned(), outcome))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// A command with the program at its end.
fn words(program: &Path, before: &[&str]) -> Vec<OsString> {
    let before = before.iter().map(OsString::from);
    before.chain([program.into()]).collect()
}

fn bubblewrap(program: &Path) -> Vec<OsString> {
    let own = program.display().to_string();
    let before = [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
        "--symlink",
        "usr/bin",
        "/bin",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        &own,
        &own,
    ];
    words(program, &before)
}

fn firejail(program: &Path) -> Vec<OsString> {
    let before = [
        "firejail",
        "--quiet",
        "--noprofile",
        "--keep-var-tmp",
        "--net=none",
        "--private-tmp",
        "--private-dev",
        "--caps.drop=all",
        "--nonewprivs",
        "--seccomp",
    ];
    words(program, &before)
}

fn nsjail(program: &Path) -> Vec<OsString> {
    let own = program.display().to_string();
    let before = [
        "-Mo",
        "-Q",
        "--user",
        "65534",
        "--group",
        "65534",
        "-R",
        "/usr",
        "-R",
        &own,
        "-m",
        "none:/tmp:tmpfs:size=67108864",
        "--",
    ];
    words(program, &before)
}

fn sandlock(program: &Path) -> Vec<OsString> {
    let own = program.display().to_string();
    words(program, &["run", "-r", "/usr", "-r", &own, "--"])
}

fn hakoniwa(program: &Path) -> Vec<OsString> {
    let own = program.display().to_string();
    let bound = format!("{own}:{own}");
    let before = [
        "run",
        "--unshare-all",
        "--devfs",
        "/dev",
        "--tmpfs",
        "/tmp",
        "-b",
        &bound,
        "--",
    ];
    words(program, &before)
}

/// Its helper programs want a folder outside `/tmp`.
fn codex(built: &HashMap<String, Result<PathBuf, String>>, program: &Path) -> Result<Peer> {
    let codex = of_list(built, "codex", &words(program, &["sandbox", "--"]));
    let Some(Ok(installed)) = built.get("codex") else {
        return Ok(codex);
    };
    let mut above = installed.ancestors();
    let root = above.find(|folder| folder.join("installed").is_file());
    let home = root.context("codex has no folder")?.join("home");
    fs::create_dir_all(&home)?;
    Ok(Peer {
        home: Some(("CODEX_HOME", home)),
        ..codex
    })
}

fn crun(bundle: &Path) -> Vec<OsString> {
    let state = bundle.join("state");
    let mut argv = words(&state, &["crun", "--root"]);
    argv.extend(words(bundle, &["run", "--bundle"]));
    argv.push(format!("bench-{}-{NUMBER}", std::process::id()).into());
    argv
}

/// An OCI bundle (runtime-spec 1.0) with all namespaces, no capability and the usual masks.
fn bundle(folder: &Path, program: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder.join("rootfs"))?;
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let tmpfs = |at: &str| {
        json!({"destination": at, "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]})
    };
    let bind = |from: &Path, to: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "ro"]});
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 65534, "gid": 65534},
            "args": ["/stamp"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            tmpfs("/dev"),
            tmpfs("/tmp"),
            bind(Path::new("/usr"), "/usr"),
            bind(program, "/stamp"),
        ],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    Ok(folder.to_owned())
}
