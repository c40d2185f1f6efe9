//! What was put up for a session is told while it runs and written down when it ends.

use std::{
    collections::BTreeMap,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{self, Agent},
};
use serde_json::Value;

const POLICY: &str = r#"
version = 1
tool = "shell"
[worker]
command = ["/usr/bin/sh", "-c"]
[[egress.allow]]
cidr = "93.184.216.34/32"
ports = [443]
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
"#;

/// States by name.
fn states(measures: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let measures = measures.as_array().expect("a list of measures");
    measures
        .iter()
        .map(|measure| (text(&measure["name"]), text(&measure["state"])))
        .collect()
}

#[test]
fn sessions_and_the_record_say_what_is_in_force() {
    let lab = Lab::new().expect("the lab can be made");
    let agent = Agent::start(lab.host(), &[("shell", POLICY)]).expect("an agent");
    let mut command = agent
        .tool("shell", &["read wait"])
        .expect("the binary is built");
    command.stdin(Stdio::piped());
    let worker = lab.host().enter(|| command.spawn());
    let mut worker = worker.expect("the namespace").expect("a worker");
    let until = Instant::now() + agent::patience();
    let told = loop {
        let sessions = agent.json("sessions").expect("the agent answers");
        let measures = &sessions[0]["enforced"];
        if measures.as_array().is_some_and(|list| !list.is_empty()) {
            break states(measures);
        }
        assert!(Instant::now() < until, "{sessions}");
        std::thread::sleep(Duration::from_millis(20));
    };
    for name in [
        "root",
        "workdir",
        "tmp",
        "landlock_files",
        "system_calls",
        "capabilities",
    ] {
        assert_eq!(
            told.get(name).map(String::as_str),
            Some("enforced"),
            "{name}"
        );
    }
    // The policy has egress: a ruleset in force could not be widened by a push.
    assert_eq!(
        told.get("landlock_tcp").map(String::as_str),
        Some("covered")
    );
    assert_eq!(told.get("procfs_net").map(String::as_str), Some("missing"));
    let table = agent.command(&["sessions"]).expect("the agent answers");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains(" measures, not ") && table.contains("procfs_net"),
        "{table}"
    );

    drop(worker.stdin.take());
    worker.wait().expect("an end");
    let journal = fs::read_to_string(agent.journal()).expect("a journal");
    let records = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("json"));
    let mut outcomes = records.filter(|record| record["record"] == "outcome");
    let outcome = outcomes.next_back();
    let written = states(&outcome.expect("an outcome")["enforced"]["measures"]);
    assert_eq!(written, told);
}
