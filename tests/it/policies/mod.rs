//! Policies pushed, removed, put back; what an agent makes of a bad folder, and of its own death in the
//! middle of a change.

mod bad;
mod killed;
mod load;
mod pushed;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use lab::{Lab, agent::Agent, binary::Scratch, patience::scaled, prober::Prober};
use serde_json::Value;

use crate::rows;

/// An agent in a lab, with one tool.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) agent: Agent,
}

/// The policy of the tool, `{scratch}` in it.
pub(crate) fn prober() -> String {
    rows::POLICY.replace("{program}", "{scratch}")
}

/// A policy that runs nothing.
pub(crate) fn other(tool: &str, cidr: &str) -> String {
    format!("version = 1\ntool = \"{tool}\"\n[[egress.allow]]\ncidr = \"{cidr}\"\nports = [443]\n")
}

impl Scene {
    pub(crate) fn new(configuration: Option<&str>) -> Self {
        let lab = Lab::new().expect("the lab can be made");
        let scratch = Scratch::new().expect("a folder");
        scratch.install("prober").expect("the prober is built");
        if let Some(text) = configuration {
            let written = scratch.write(lab::agent::CONFIGURATION, text);
            written.expect("it is written");
        }
        let agent = Agent::start_in(lab.host(), scratch, &[("prober", &prober())]);
        let agent = agent.expect("an agent");
        Self { lab, agent }
    }

    pub(crate) fn worker(&self) -> Prober {
        let mut command = self.agent.tool("prober", &[]).expect("the binary is built");
        Prober::start(self.lab.host(), &mut command).expect("the worker starts")
    }

    /// A file to be pushed; `{scratch}` in its text is the agent's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let scratch = self.agent.scratch().path();
        let path = scratch.join("new").join(name);
        let parent = path.parent().expect("it lies in a folder");
        fs::create_dir_all(parent).expect("a folder");
        let text = text.replace("{scratch}", &scratch.display().to_string());
        fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    pub(crate) fn policy(&self, words: &[&str]) -> Output {
        self.agent.policy(words).expect("the binary is built")
    }

    /// Runs a policy verb that has to succeed; what it prints.
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.policy(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a policy verb that has to be refused with a code; what it says.
    pub(crate) fn refused(&self, words: &[&str], code: i32) -> String {
        let output = self.policy(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    }

    pub(crate) fn status(&self) -> Value {
        self.agent.json("status").expect("the agent answers")
    }

    /// Digest of the set in force.
    pub(crate) fn digest(&self) -> String {
        digest(&self.status())
    }

    pub(crate) fn in_folder(&self, name: &str) -> PathBuf {
        self.agent.policies().join(name)
    }

    /// Every name in the policy folder.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.agent.policies())
    }

    /// The journal's records of a kind.
    pub(crate) fn records(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.agent.journal()).expect("a journal");
        let records = text.lines().map(serde_json::from_str::<Value>);
        let records = records.filter_map(Result::ok);
        records.filter(|record| record["record"] == kind).collect()
    }

    pub(crate) fn journal_is_whole(&self) {
        let mut command = std::process::Command::new(lab::binary::stockade().expect("built"));
        command.args(["audit", "verify", "--instance", self.agent.instance()]);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }
}

pub(crate) fn digest(status: &Value) -> String {
    let digest = status["policy_set"]["digest"].as_str();
    digest
        .unwrap_or_else(|| panic!("no set: {status}"))
        .to_owned()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, within: Duration, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < scaled(within), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
