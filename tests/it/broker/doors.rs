//! Whose the two sockets are: a member of the callers' group calls and does nothing else, a member of
//! the control group operates the agent and calls nobody, and who is in neither gets no word.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::unistd::Group;
use serde_json::Value;

use super::{Scene, text};

/// Groups that every Debian has; nobody is in them for the tests' sake.
const OPERATORS: &str = "adm";
const CALLERS: &str = "games";
const NEITHER: &str = "nogroup";
/// `nobody`: no user of the agent's range, and a member of no group but the one that a test gives.
const UID: u32 = 65_534;
/// `EX_NOPERM`
const NOT_PERMITTED: i32 = 77;
const READ: [&str; 2] = ["--arguments", r#"{"id": "INV-0A1B2C3D"}"#];

struct Doors {
    scene: Scene,
    program: PathBuf,
    key: String,
    token: String,
}

impl Doors {
    /// An agent with these two groups, and a caller's key and token that only `UID` can read.
    fn new(control: &str, callers: &str) -> Self {
        let scene = Scene::invoice_configured(|_| {
            format!("control_group = \"{control}\"\n[broker.calls]\ngroup = \"{callers}\"\n")
        });
        let folder = scene.agent.scratch().path().to_owned();
        let program = scene.agent.scratch().install("stockade").expect("a copy");
        let place = |name: &str| folder.join(name).to_str().expect("text").to_owned();
        let (key, token) = (place("proof.pem"), place("token"));
        // The copy is run later, when no child of another test can hold it open for writing any more.
        let own = lab::binary::stockade().expect("the binary is built");
        let made = Command::new(own).args(["token", "key", &key]).output();
        assert!(made.expect("it runs").status.success());
        let issued = scene.said(
            ["token", "issue"],
            &[
                "--subject",
                "alice",
                "--client",
                "it",
                "--scope",
                "invoice:read",
                "--key",
                &key,
            ],
        );
        fs::write(&token, issued.trim()).expect("a file");
        for file in [&key, &token] {
            chown(file, Some(UID), None).expect("root gives files away");
        }
        Self {
            scene,
            program,
            key,
            token,
        }
    }

    /// Runs the command line as somebody who is in this group and in no other.
    fn by(&self, group: &str, words: &[&str], rest: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        // Supplementary groups of the test are dropped with its user.
        command
            .uid(UID)
            .gid(gid(group))
            .args(words)
            .args(["--instance", self.scene.agent.instance()])
            .args(rest)
            .stdin(Stdio::null());
        command.output().expect("it runs")
    }

    /// A call with the caller's own key and token.
    fn call_by(&self, group: &str) -> Output {
        let shown = ["--key", &self.key, "--token-file", &self.token];
        let rest = [["invoice", "read"].as_slice(), &READ, &shown].concat();
        self.by(group, &["call"], &rest)
    }

    fn refuses(&self, group: &str, words: &[&str], rest: &[&str]) {
        let output = self.by(group, words, rest);
        let said = text(&output.stderr);
        println!("{group} {words:?} {rest:?}: {said}");
        assert_eq!(
            output.status.code(),
            Some(NOT_PERMITTED),
            "{words:?} {said}"
        );
        assert!(said.contains("not permitted"), "{words:?} {said}");
        assert_eq!(text(&output.stdout), "", "{words:?}");
    }

    fn socket(&self, name: &str) -> fs::Metadata {
        let folder = Path::new("/run").join(self.scene.agent.instance());
        fs::metadata(folder.join(name)).expect("a socket")
    }

    fn warnings(&self) -> String {
        let status: Value = self.scene.agent.json("status").expect("a status");
        status["warnings"].to_string()
    }
}

fn gid(group: &str) -> u32 {
    let found = Group::from_name(group).expect("groups can be looked up");
    found.expect("every Debian has it").gid.as_raw()
}

/// All that the control socket takes: what a caller has no business with.
fn asked_of_operators<'a>(
    policy: &'a str,
    key: &'a str,
) -> Vec<(&'static [&'static str], Vec<&'a str>)> {
    let whose = ["--subject", "alice", "--client", "it"];
    let what = ["--scope", "invoice:create", "--key", key];
    vec![
        (&["policy", "push"], vec![policy]),
        (&["policy", "push"], vec!["--dry-run", policy]),
        (&["policy", "remove"], vec!["invoice"]),
        (&["policy", "history"], vec![]),
        (&["policy", "rollback"], vec![]),
        (&["token", "issue"], [whose, what].concat()),
        (&["token", "rotate"], vec!["--force"]),
        (&["token", "revoke"], vec!["--subject", "alice"]),
        (&["token", "revocations"], vec![]),
        (&["token", "keys"], vec![]),
        (&["tool", "off"], vec!["invoice"]),
        (&["run"], vec!["invoice"]),
        (&["reload"], vec![]),
        (&["status"], vec![]),
        (&["sessions"], vec![]),
        (&["events"], vec!["--follow", "--json"]),
        // Without a token of its own it would have to be given one.
        (&["call"], [["invoice", "read"], READ].concat()),
    ]
}

#[test]
fn a_caller_calls_and_does_nothing_else() {
    let doors = Doors::new(OPERATORS, CALLERS);
    for (name, group) in [("control.sock", OPERATORS), ("broker.sock", CALLERS)] {
        let found = doors.socket(name);
        let mode = found.permissions().mode() & 0o777;
        assert_eq!((found.gid(), mode), (gid(group), 0o660), "{name}");
    }
    assert_eq!(doors.warnings(), "[]");
    let policies = doors.scene.agent.policies();
    let policy = policies.join("invoice.toml");
    let policy = policy.to_str().expect("text");
    let before = doors.scene.agent.json("status").expect("a status");

    for group in [CALLERS, NEITHER] {
        for (words, rest) in asked_of_operators(policy, &doors.key) {
            doors.refuses(group, words, &rest);
        }
    }
    let after = doors.scene.agent.json("status").expect("a status");
    for what in ["policies", "tools_off", "sessions"] {
        assert_eq!(before[what], after[what], "{what}");
    }

    // The control: the same words of somebody who may, and the call of the one who may call.
    let status = doors.by(OPERATORS, &["status"], &["--json"]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    let called = doors.call_by(CALLERS);
    assert!(
        called.status.success(),
        "{}\n{}",
        text(&called.stderr),
        doors.scene.agent.log()
    );
    assert!(text(&called.stdout).contains("Example Ltd"));
    for group in [OPERATORS, NEITHER] {
        let refused = doors.call_by(group);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(NOT_PERMITTED), "{group} {said}");
        assert!(said.contains("not permitted"), "{group} {said}");
    }
    let calls = doors
        .scene
        .records(&["--user", "alice", "--outcome", "done"]);
    assert_eq!(calls.len(), 1, "{calls:#?}");
    doors.scene.end();
}

#[test]
fn one_group_for_both_is_warned_of_and_a_missing_one_opens_nothing() {
    let doors = Doors::new(CALLERS, CALLERS);
    let warned = doors.warnings();
    assert!(warned.contains("group `games` has the control"), "{warned}");
    let log = doors.scene.agent.log();
    assert!(log.contains("callers have the control socket too"), "{log}");
    doors.scene.end();

    let doors = Doors::new("stockade-test-none", "stockade-test-none");
    for name in ["control.sock", "broker.sock"] {
        let found = doors.socket(name);
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{name}");
    }
    // Also for the group that root's files have.
    for group in ["root", CALLERS] {
        doors.refuses(group, &["status"], &[]);
        let refused = doors.call_by(group);
        assert_eq!(refused.status.code(), Some(NOT_PERMITTED), "{group}");
    }
    let log = doors.scene.agent.log();
    let said = log.matches("no such group: the socket is root's alone");
    assert_eq!(said.count(), 2, "{log}");
    assert_eq!(doors.warnings(), "[]");
    doors.scene.end();
}
