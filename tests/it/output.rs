//! What a worker leaves in `/workdir/output`: files and folders become the host's, all else refuses
//! the whole.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use lab::{
    Lab,
    agent::Agent,
    binary::{self, Scratch},
};
use serde_json::Value;

struct Scene {
    lab: Lab,
    scratch: Scratch,
}

/// Python beside a shell: some names can not be typed.
const POLICY: &str = r#"
version = 1
tool = "maker"
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"
[filesystem.output]
path = "{scratch}/out"
size = "1MiB"
entries = 20
depth = 2
"#;

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().expect("the lab can be made");
        let scratch = Scratch::new().expect("a folder");
        let scene = Self { lab, scratch };
        fs::create_dir(scene.out()).expect("a folder");
        scene
    }

    fn out(&self) -> PathBuf {
        self.scratch.path().join("out")
    }

    fn journal(&self) -> PathBuf {
        self.scratch.path().join("journal.jsonl")
    }

    /// Runs a script under the policy with more lines for its last table.
    fn run_with(&self, more: &str, script: &str) -> Output {
        let place = self.scratch.path().display().to_string();
        let text = format!("{POLICY}{more}\n").replace("{scratch}", &place);
        let policy = self.scratch.write("maker.toml", &text).expect("a policy");
        let mut command = Command::new(binary::stockade().expect("the binary is built"));
        command
            .args(["run", "--journal"])
            .arg(self.journal())
            .args(["--explain=always", "--policy"])
            .arg(policy)
            .args(["--", "/usr/bin/sh", "-c", script])
            .stdin(Stdio::null());
        let output = self.lab.host().enter(|| command.output());
        output.expect("the namespace").expect("it runs")
    }

    fn run(&self, script: &str) -> Output {
        self.run_with("", script)
    }

    /// The session folders of the host, hidden ones too.
    fn handed(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.out()).expect("the folder");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        paths
    }

    /// What the last record says of the output.
    fn recorded(&self) -> Value {
        let text = fs::read_to_string(self.journal()).expect("a journal");
        let last = text.lines().last().expect("a record");
        let record: Value = serde_json::from_str(last).expect("json");
        assert_eq!(record["record"], "outcome", "{record}");
        record["output"].clone()
    }

    fn refuses(&self, script: &str, why: &str) {
        let ended = self.run(script);
        assert_eq!(ended.status.code(), Some(0), "{script}: {ended:?}");
        assert_eq!(self.handed(), Vec::<PathBuf>::new(), "{script}");
        let record = self.recorded();
        let said = record["refused"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{script}: {record}");
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(
            stderr.contains("nothing is handed out"),
            "{script}: {stderr}"
        );
        assert!(!stderr.contains('\u{1b}'), "{script}: {stderr:?}");
    }
}

/// The agent has confined itself and may write into none of the host's folders.
#[test]
fn a_session_of_the_agent_hands_out_as_well() {
    let Scene { lab, scratch } = Scene::new();
    let out = scratch.path().join("out");
    let worker = "\n[worker]\ncommand = [\"/usr/bin/sh\", \"-c\"]\n";
    let policy = format!("{POLICY}{worker}");
    let agent = Agent::start_in(lab.host(), scratch, &[("maker", &policy)]).expect("an agent");
    let made = agent.run("maker", &["mkdir output/b && echo text > output/b/a"]);
    let made = made.expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let entries = fs::read_dir(&out).expect("the folder");
    let folders: Vec<_> = entries.map(|entry| entry.expect("one").path()).collect();
    let [folder] = folders.as_slice() else {
        panic!("{folders:?}: {made:?}");
    };
    let text = fs::read_to_string(folder.join("b/a")).expect("what it made");
    assert_eq!(text, "text\n");
    let refused = agent.run("maker", &["ln -s /etc/passwd output/a"]);
    let refused = refused.expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("a symbolic link"), "{said}");
    assert_eq!(fs::read_dir(&out).expect("the folder").count(), 1);
    assert_eq!(agent.end().expect("the agent ends"), Vec::<String>::new());
}

#[test]
fn files_and_folders_are_handed_out_and_nothing_else_of_them() {
    let scene = Scene::new();
    let script = "cd output && echo text > a && mkdir -p b/c && cp /usr/bin/true b/c/run \
                  && chmod 6777 b/c/run && touch -d 2001-01-01 a && head -c 1000 /dev/urandom > b/-r";
    let ended = scene.run(script);
    assert!(ended.status.success(), "{ended:?}");
    let handed = scene.handed();
    let [folder] = handed.as_slice() else {
        panic!("{handed:?}: {ended:?}");
    };
    assert_eq!(fs::read_to_string(folder.join("a")).expect("a"), "text\n");
    assert_eq!(
        fs::read(folder.join("b/c/run")).expect("run"),
        fs::read("/usr/bin/true").expect("true")
    );
    for (path, mode) in [
        ("", 0o40_700),
        ("a", 0o100_600),
        ("b", 0o40_700),
        ("b/c/run", 0o100_600),
    ] {
        let found = fs::metadata(folder.join(path)).expect("an entry");
        assert_eq!(found.mode(), mode, "{path}");
        assert_eq!((found.uid(), found.gid()), (0, 0), "{path}");
    }
    let found = fs::metadata(folder.join("a")).expect("an entry");
    assert!(
        found.mtime() > 1_700_000_000,
        "the worker's time came along"
    );
    let record = scene.recorded();
    assert_eq!(record["folder"]["files"], 3, "{record}");
    assert_eq!(record["folder"]["folders"], 2, "{record}");
    assert_eq!(record["folder"]["path"], folder.display().to_string());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("handed out: 3 files"), "{said}");

    // A second session has a folder of its own; one that leaves nothing has none.
    assert!(scene.run("echo more > output/more").status.success());
    assert_eq!(scene.handed().len(), 2);
    assert!(scene.run("true").status.success());
    assert_eq!(scene.handed().len(), 2);
    assert_eq!(scene.recorded(), Value::Null);
}

#[test]
fn owner_and_mode_are_the_policys() {
    let scene = Scene::new();
    let more = "umask = \"027\"\nowner = 1234\ngroup = 2345";
    let ended = scene.run_with(more, "mkdir output/b && echo x > output/b/c && exit 3");
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let handed = scene.handed();
    for (path, mode) in [("", 0o40_750), ("b", 0o40_750), ("b/c", 0o100_640)] {
        let found = fs::metadata(handed[0].join(path)).expect("an entry");
        assert_eq!(found.mode(), mode, "{path}");
        assert_eq!((found.uid(), found.gid()), (1234, 2345), "{path}");
    }
}

#[test]
fn anything_else_refuses_the_whole() {
    let scene = Scene::new();
    let fine = "echo x > output/fine;";
    for (script, why) in [
        ("ln -s /etc/shadow output/link", "`link`: a symbolic link"),
        (
            "mkdir output/d; ln -s .. output/d/up",
            "`d/up`: a symbolic link",
        ),
        ("mkfifo output/pipe", "`pipe`: a named pipe"),
        (
            "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"output/s\")'",
            "`s`: a socket",
        ),
        ("mkdir -p output/1/2/3", "more than 2 folders deep"),
        ("truncate -s 1G output/hole", "more than 1048576 bytes"),
        (
            "head -c 600000 /dev/zero > output/a; ln output/a output/b",
            "more than 1048576 bytes",
        ),
        (
            "python3 -c 'open(\"output/\\x1b[2Jx\", \"w\")'",
            r"`\x1b[2Jx`: its name is not text",
        ),
        (
            "python3 -c 'open(b\"output/\\xff\", \"w\")'",
            "its name is not text",
        ),
    ] {
        scene.refuses(&format!("{fine} {script}"), why);
    }
    // The control: without them it is handed out.
    assert!(scene.run(fine).status.success());
    assert_eq!(scene.handed().len(), 1);
}

#[test]
fn the_place_is_bounded_and_stays_where_it_is() {
    let scene = Scene::new();
    let program = r"
import os, errno
def attempt(act):
    try: act(); return 'ok'
    except OSError as error: return errno.errorcode[error.errno]
def fill():
    with open('output/big', 'wb', 0) as file:
        for _ in range(20): file.write(bytes(100000))
print(attempt(fill))
os.unlink('output/big')
made = 0
while attempt(lambda: open('output/%d' % made, 'w').close()) == 'ok': made += 1
print(made)
for name in os.listdir('output'): os.unlink('output/' + name)
print(attempt(lambda: os.rename('output', 'elsewhere')))
print(attempt(lambda: os.rmdir('output')))
print(attempt(lambda: os.symlink('/usr', 'output')))
with open('output/run', 'w') as file: file.write('#!/usr/bin/sh\n')
os.chmod('output/run', 0o755)
print(attempt(lambda: os.execv('output/run', ['run'])))
";
    let ended = scene.run(&format!("python3 -c \"{}\"", program.replace('"', "'")));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(
        said, "ENOSPC\n20\nEBUSY\nEBUSY\nEEXIST\nEACCES\n",
        "{ended:?}"
    );
    // Nothing can be seen of it while the session runs, and nothing of it is on the host after.
    assert_eq!(scene.handed().len(), 1);
}

#[test]
fn a_folder_that_others_could_give_away_is_refused_before_the_start() {
    let scene = Scene::new();
    let refused = |why: &str| {
        let ended = scene.run("echo x > output/x");
        assert_eq!(ended.status.code(), Some(125), "{ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains(why) && said.contains("hint: "), "{said}");
    };
    let mode = |mode| fs::set_permissions(scene.out(), fs::Permissions::from_mode(mode));
    mode(0o777).expect("its mode");
    refused("others may write there");
    mode(0o755).expect("its mode");
    let aside = scene.scratch.path().join("aside");
    fs::rename(scene.out(), &aside).expect("moved");
    refused("No such file");
    std::os::unix::fs::symlink(&aside, scene.out()).expect("a link");
    refused("symbolic link");
    fs::remove_file(scene.out()).expect("gone");
    fs::rename(&aside, scene.out()).expect("moved back");
    assert!(scene.run("echo x > output/x").status.success());
    assert_eq!(scene.handed().len(), 1);
}

#[test]
fn a_killed_worker_hands_out_what_it_left() {
    let scene = Scene::new();
    let ended = scene.run("echo x > output/x; (sleep 60; echo late > output/late) & kill -9 $$");
    assert_eq!(ended.status.code(), Some(137), "{ended:?}");
    let handed = scene.handed();
    let [folder] = handed.as_slice() else {
        panic!("{handed:?}: {ended:?}");
    };
    let entries = fs::read_dir(folder).expect("the folder").count();
    assert_eq!(entries, 1);
}
