//! Access tokens of a running agent: what the command line issues, another verifier takes; what was
//! revoked stays so when the agent is killed.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::broker::{
    issuer::{Issuers, Revoked, StaticIssuer},
    proof::Signer,
    token::{Claims, Verifier},
};
use lab::{Lab, agent::Agent, binary};
use serde_json::Value;

const POLICY: &str = r#"
version = 1
tool = "shell"
description = "A shell"
[worker]
command = ["/usr/bin/sh", "-c"]
protocol = "exec"
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"
"#;

struct Scene {
    lab: Lab,
    agent: Agent,
    key: PathBuf,
}

fn scene() -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let agent = Agent::start(lab.host(), &[("shell", POLICY)]).expect("an agent");
    let key = agent.scratch().path().join("proof.pem");
    Scene { lab, agent, key }
}

impl Scene {
    /// `stockade token VERB …` on this instance.
    fn token(&self, verb: &str, words: &[&str]) -> Output {
        let mut command = Command::new(binary::stockade().expect("the binary is built"));
        command.args(["token", verb, "--instance", self.agent.instance()]);
        command.args(words).output().expect("it runs")
    }

    fn said(&self, verb: &str, words: &[&str]) -> String {
        let output = self.token(verb, words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verb} {words:?}: {complaint}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn json(&self, verb: &str, words: &[&str]) -> Value {
        serde_json::from_str(&self.said(verb, words)).expect("json")
    }

    /// What `audit query --json` tells, with these options.
    fn recorded(&self, options: &[&str]) -> Vec<Value> {
        let mut command = Command::new(binary::stockade().expect("the binary is built"));
        command.args([
            "audit",
            "query",
            "--json",
            "--instance",
            self.agent.instance(),
        ]);
        let output = command.args(options).output().expect("it runs");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = said
            .lines()
            .map(|line| serde_json::from_str(line).expect("json"));
        lines.collect()
    }

    fn issue(&self, more: &[&str]) -> Value {
        let key = self.key.display().to_string();
        let words = [
            "--subject",
            "alice",
            "--client",
            "lab",
            "--scope",
            "shell:run",
        ];
        let words = [&words[..], &["--key", &key, "--json"], more].concat();
        self.json("issue", &words)
    }

    /// Checks a token with the keys that the agent shows, as another host would.
    fn verify(&self, issued: &Value) -> Result<Arc<Claims>, String> {
        let resource = text(issued, "resource").to_owned();
        let folder = self.agent.scratch().path();
        let jwks = folder.join("shown.jwks");
        fs::write(&jwks, self.said("keys", &[])).expect("written");
        let shown = StaticIssuer {
            issuer: format!("{resource}/issuer"),
            jwks,
        };
        let issuers = Issuers::new(None, vec![shown]).map_err(|error| error.to_string())?;
        let revoked = Revoked::open(&folder.join("none.json")).expect("a list");
        let lifetime = Duration::from_mins(5);
        let verifier = Verifier::new(resource, lifetime, Arc::new(issuers), Arc::new(revoked));
        let outcome = verifier.verify(text(issued, "access_token"), SystemTime::now());
        outcome.map_err(|refused| refused.reason.code().to_owned())
    }

    fn make_key(&self) -> String {
        let mut command = Command::new(binary::stockade().expect("the binary is built"));
        let output = command.args(["token", "key"]).arg(&self.key).output();
        let output = output.expect("it runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim()
            .to_owned()
    }

    fn state(&self, name: &str) -> PathBuf {
        Path::new("/var/lib").join(self.agent.instance()).join(name)
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).expect("a text")
}

#[test]
fn what_is_issued_is_taken_and_not_logged() {
    let scene = scene();
    let jkt = scene.make_key();
    assert_eq!(Signer::load(&scene.key).expect("a key").jkt(), jkt);
    let issued = scene.issue(&[
        "--tool",
        "shell",
        "--purpose",
        "look around",
        "--ttl",
        "90s",
    ]);
    let claims = scene.verify(&issued).expect("good");
    assert_eq!(claims.subject, "alice");
    assert_eq!(claims.tool.as_deref(), Some("shell"));
    assert_eq!(
        claims.jkt,
        Signer::load(&scene.key).expect("a key").thumbprint()
    );
    assert_eq!(
        claims
            .expires
            .duration_since(claims.issued)
            .expect("a life")
            .as_secs(),
        90
    );
    let log = scene.agent.log();
    assert!(log.contains("token issued") && log.contains(text(&issued, "token_id")));
    assert!(!log.contains(text(&issued, "access_token")));
    let mode = fs::metadata(scene.state("issuer.json"))
        .expect("a file")
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    for (words, code) in [
        (&["--ttl", "6m"][..], 2),
        (&["--ttl", "0s"], 2),
        (&["--scope", "two words"], 2),
        (&["--arguments-digest", "AAAA"], 2),
        (&["--purpose", "\u{1b}[2J"], 2),
    ] {
        let key = scene.key.display().to_string();
        let base = [
            "--subject",
            "a",
            "--client",
            "b",
            "--scope",
            "c",
            "--key",
            &key,
        ];
        let output = scene.token("issue", &[&base[..], words].concat());
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(output.stdout.is_empty());
    }
    // Ids are base64url: one of 64 begins like an option.
    for what in ["--id", "--key"] {
        scene.said("revoke", &[what, "-iSsma3JhJHBFnrQwakI0w"]);
    }
    drop(scene.lab);
}

#[test]
fn rotation_is_rehearsed() {
    let scene = scene();
    scene.make_key();
    let first = scene.issue(&[]);
    scene.said("rotate", &[]);
    assert!(scene.verify(&first).is_ok());
    let second = scene.issue(&[]);
    assert_ne!(text(&second, "key_id"), text(&first, "key_id"));
    scene.said("rotate", &["--force"]);
    for old in [&first, &second] {
        assert_eq!(scene.verify(old).err().as_deref(), Some("token_key"));
    }
    assert!(scene.verify(&scene.issue(&[])).is_ok());
    // A key that is revoked signs nothing any more.
    let third = scene.issue(&[]);
    scene.said("revoke", &["--key", text(&third, "key_id")]);
    assert_eq!(scene.verify(&third).err().as_deref(), Some("token_key"));
    let fourth = scene.issue(&[]);
    assert_ne!(text(&fourth, "key_id"), text(&third, "key_id"));
    assert!(scene.verify(&fourth).is_ok());
    // All of it is in the journal: who asked, and what for.
    let issued = scene.recorded(&["--outcome", "issued", "--user", "alice"]);
    let ids: Vec<_> = issued
        .iter()
        .map(|one| &one["begun"]["token"]["id"])
        .collect();
    assert_eq!(ids.len(), 5, "{issued:?}");
    assert_eq!(*ids[0], first["token_id"]);
    assert_eq!(issued[0]["begun"]["caller"]["uid"], 0);
    let rotated = scene.recorded(&["--outcome", "rotated"]);
    let forced: Vec<_> = rotated.iter().map(|one| &one["begun"]["forced"]).collect();
    assert_eq!(forced, [false, true]);
    let revoked = scene.recorded(&["--outcome", "revoked"]);
    assert_eq!(revoked[0]["begun"]["key"], third["key_id"], "{revoked:?}");
    assert_eq!(revoked[0]["begun"]["new_key"], fourth["key_id"]);
}

#[test]
fn keys_and_revocations_survive_a_kill() {
    let mut scene = scene();
    scene.make_key();
    let issued = scene.issue(&[]);
    scene.said("revoke", &["--subject", "alice"]);
    scene.said("revoke", &["--id", text(&issued, "token_id")]);
    scene.agent.kill().expect("killed");
    scene.agent.launch().expect("started again");
    assert!(scene.verify(&issued).is_ok(), "the key is another");
    let list = scene.json("revocations", &["--json"]);
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(one, "kind"), text(one, "name")))
        .collect();
    assert!(names.contains(&("subject", "alice")), "{names:?}");
    assert!(
        names.contains(&("token", text(&issued, "token_id"))),
        "{names:?}"
    );
    // A list that is damaged is no empty list: the agent does not start.
    scene.agent.stop().expect("stopped");
    let file = scene.state("revoked.json");
    let good = fs::read(&file).expect("a file");
    fs::write(&file, "{").expect("written");
    assert!(scene.agent.launch().is_err());
    assert!(
        scene.agent.log().contains("damaged"),
        "{}",
        scene.agent.log()
    );
    fs::write(&file, good).expect("written");
    scene.agent.launch().expect("started again");
}
