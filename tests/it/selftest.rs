//! The self-test of a fence: it passes on whole ones, finds each layer that is taken out, and what it
//! finds stops the launches of that policy.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Instant,
};

use agent::{config::Instance, kernel::cgroup::Parent};
use lab::{
    Lab,
    agent::{Agent, METRICS, patience},
    binary::{Scratch, built, stockade},
    metrics,
};
use serde_json::Value;

use crate::fence::room::{USR, policy, with_room, with_room_of};

const PROFILES: &[&str] = &["strict", "default", "interpreter"];

fn under(profile: &str) -> String {
    format!("{USR}\n[syscalls]\nprofile = \"{profile}\"\n")
}

#[test]
fn nothing_slips_through_a_whole_fence() {
    let door = "[[egress.allow_private]]\ncidr = \"169.254.169.254/32\"\nprotocol = \"udp\"\n\
                ports = [\"1-65535\"]\nreason = \"as wide as a door can be\"\n";
    let mut policies: Vec<_> = PROFILES.iter().map(|profile| under(profile)).collect();
    policies.push(format!("{USR}\n{door}"));
    policies.push(USR.replace("version = 1", "version = 1\nmode = \"observe\""));
    policies.push(format!(
        "{USR}\n[syscalls]\ndeny = [\"socket\", \"connect\", \"openat\"]\n"
    ));
    // No program is needed for it.
    policies.push("version = 1\ntool = \"fence-test\"\n".to_owned());
    with_room(async |room| {
        for text in &policies {
            let slipped = room.self_test(&policy(text)).await;
            assert!(slipped.is_none(), "{slipped} under {text}");
        }
    });
}

/// A launcher that takes a layer out. By links: a copy could not be executed while another test's
/// process that was just made still has it open for writing.
fn weak(scratch: &Scratch, weakness: &str) -> PathBuf {
    let link = |target: &Path, name: &str| {
        let link = scratch.path().join(name);
        if !link.exists() {
            symlink(target, &link).expect("a link");
        }
        link
    };
    link(&stockade().expect("the binary"), "stockade");
    link(&built("weak-launcher").expect("it is built"), weakness)
}

#[test]
fn a_missing_layer_is_found_under_every_profile() {
    let scratch = Scratch::new().expect("a folder");
    for (weakness, found) in [
        ("whole", ""),
        ("no-filters", "socket family, system call"),
        ("no-landlock", "read"),
    ] {
        with_room_of(&weak(&scratch, weakness), async |room| {
            for profile in PROFILES {
                let slipped = room.self_test(&policy(&under(profile))).await;
                assert_eq!(slipped.to_string(), found, "{weakness}, {profile}");
            }
        });
    }
}

#[test]
fn a_session_that_the_hooks_do_not_see_is_found() {
    let name = format!("selftest-bare-{}", std::process::id());
    let bare = Instance::new(&name).expect("a name");
    let bare = Parent::create(&bare).expect("a cgroup");
    with_room(async |room| {
        for profile in PROFILES {
            let policy = policy(&under(profile));
            let slipped = room.self_test_below(&policy, &bare).await;
            assert_eq!(slipped.to_string(), "connect", "{profile}");
        }
    });
    bare.remove().expect("nothing is left in it");
}

fn shell(tool: &str) -> String {
    format!(
        "version = 1\ntool = \"{tool}\"\n[worker]\ncommand = [\"/usr/bin/sh\", \"-c\", \"echo runs\"]\n\
         [filesystem]\nread = [\"/usr\"]\nexecute = [\"/usr/bin\"]\n"
    )
}

fn outcome(agent: &Agent, tool: &str) -> Value {
    let status = agent.json("status").expect("the agent answers");
    let policies = status["policies"].as_array().cloned().unwrap_or_default();
    let found = policies.iter().find(|policy| policy["tool"] == tool);
    found.expect("the policy")["self_test"].clone()
}

fn pinned_links(agent: &Agent, name: &str) -> Vec<PathBuf> {
    let pins = Path::new("/sys/fs/bpf").join(agent.instance());
    let versions = fs::read_dir(pins).expect("pins").flatten();
    let links = versions.map(|version| version.path().join(name));
    links.filter(|link| link.exists()).collect()
}

fn records(agent: &Agent) -> Vec<Value> {
    let text = fs::read_to_string(agent.journal()).expect("the journal");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

#[test]
fn an_agent_launches_nothing_through_a_hole() {
    let lab = Lab::new().expect("the lab can be made");
    let policies = [("first", shell("first")), ("second", shell("second"))];
    let policies = policies
        .each_ref()
        .map(|(tool, text)| (*tool, text.as_str()));
    let agent = Agent::start(lab.host(), &policies).expect("an agent");
    let events = agent.events().expect("events");
    // One is tested at the start, the others when they are launched.
    let begun = Instant::now();
    while outcome(&agent, "first") != "passed" {
        assert!(begun.elapsed() < patience(), "{}", agent.log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(outcome(&agent, "second"), "not_yet");
    // Somebody takes a hook away.
    let links = pinned_links(&agent, "link_connect4");
    assert_eq!(links.len(), 1, "{links:?}");
    for link in links {
        fs::remove_file(link).expect("the pin");
    }
    for _ in 0..2 {
        let refused = agent.run("second", &[]).expect("the command line runs");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(125), "{said}");
        assert!(
            said.contains("did not refuse everything: connect"),
            "{said}"
        );
        assert!(refused.stdout.is_empty(), "{refused:?}");
    }
    assert_eq!(outcome(&agent, "second")["slipped"], "connect");
    let status = agent.command(&["status"]).expect("the command line runs");
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let page = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(page.contains("FAILED: connect"), "{page}");
    let text = metrics::get(lab.host(), METRICS, "/metrics").expect("metrics");
    for (tool, passed) in [("first", 1.0), ("second", 0.0)] {
        let label = format!("tool=\"{tool}\"");
        let samples = metrics::parse(&text);
        let name = "stockade_policy_self_test_passed";
        assert!(samples.iter().any(|sample| sample.name == name), "{text}");
        let value = metrics::sum(&samples, name, &[&label]);
        assert!((value - passed).abs() < 0.1, "{text}");
    }
    let tested: Vec<_> = records(&agent)
        .into_iter()
        .filter(|record| record["record"] == "self_tested")
        .map(|record| record["slipped"].clone())
        .collect();
    assert_eq!(tested.len(), 2, "{tested:?}");
    assert_eq!(tested[0], Value::Array(Vec::new()));
    assert_eq!(tested[1], serde_json::json!(["connect"]));
    // What a test is refused is nobody's event.
    let told = events.finish().expect("events");
    assert!(told.is_empty(), "{told:?}");
    // The hook is back after a restart, and so is the tool.
    let mut agent = agent;
    agent.stop().expect("the agent ends");
    agent.launch().expect("it starts again");
    let again = agent.run("second", &[]).expect("the command line runs");
    assert!(again.status.success(), "{again:?}");
    assert_eq!(String::from_utf8_lossy(&again.stdout), "runs\n");
    assert_eq!(agent.end().expect("it ends"), Vec::<String>::new());
}

#[test]
fn doctor_tells_what_each_policy_loses_and_whether_it_is_tight() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let policies = scratch.path().join("policies.d");
    fs::create_dir(&policies).expect("a folder");
    fs::write(policies.join("good.toml"), shell("good")).expect("a policy");
    let missing = shell("missing").replace("read = [\"/usr\"]", "read = [\"/no/such/folder\"]");
    fs::write(policies.join("missing.toml"), missing).expect("a policy");
    let text = format!(
        "policies = \"{}\"\ncontrol_group = \"root\"\n[broker.calls]\ngroup = \"root\"\n",
        policies.display()
    );
    let config = scratch.write("stockade.toml", &text).expect("a file");
    let mut command = std::process::Command::new(stockade().expect("the binary"));
    command.args(["doctor", "--json", "--config"]).arg(config);
    let output = lab.host().enter(|| command.output());
    let output = output.expect("the namespace").expect("it runs");
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).expect("checks");
    let state = |name: &str| {
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {checks:#?}"))
    };
    for name in [
        "kernel",
        "cgroup v2",
        "controllers",
        "cgroup.kill",
        "bpf jit",
        "hooks",
        "security modules",
        "landlock",
        "clock",
        "clock source",
    ] {
        assert_ne!(state(name)["state"], "missing", "{name}");
    }
    assert_eq!(state("self-test good")["state"], "ok");
    // One group that has both sockets is said to be one.
    for (name, expected) in [
        ("control group", "ok"),
        ("callers' group", "ok"),
        ("two groups", "weaker"),
    ] {
        assert_eq!(state(name)["state"], expected, "{name}");
    }
    // What is weaker or missing comes with its fix.
    assert!(
        checks
            .iter()
            .all(|check| check["state"] == "ok" || check["fix"].is_string()),
        "{checks:#?}"
    );
    for name in ["policy missing", "self-test missing"] {
        let check = state(name);
        assert_ne!(check["state"], "ok");
        assert!(
            check["detail"].to_string().contains("/no/such/folder"),
            "{check}"
        );
    }
    assert_eq!(output.status.code(), Some(0), "{checks:#?}");
}
