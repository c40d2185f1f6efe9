//! A running agent's policies replaced: what changes at once, and what a bad folder does not change.

use std::time::{Duration, Instant};

use lab::{
    Lab,
    agent::Agent,
    binary::Scratch,
    patience::scaled,
    prober::{Answer, Prober},
};

use crate::rows;

struct Scene {
    lab: Lab,
    agent: Agent,
}

fn policy() -> String {
    rows::POLICY.replace("{program}", "{scratch}")
}

fn scene() -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    scratch.install("prober").expect("the prober is built");
    let agent = Agent::start_in(lab.host(), scratch, &[("prober", &policy())]).expect("an agent");
    Scene { lab, agent }
}

impl Scene {
    fn worker(&self) -> Prober {
        let mut command = self.agent.tool("prober", &[]).expect("the binary is built");
        Prober::start(self.lab.host(), &mut command).expect("the worker starts")
    }

    fn replace(&self, from: &str, to: &str) {
        let text = policy().replace(from, to);
        assert_ne!(text, policy(), "`{from}` stands nowhere");
        self.agent
            .write_policy("prober", &text)
            .expect("it is written");
        self.agent.reload().expect("the agent reloads");
    }
}

fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}

const KEPT: &str = "socket inet stream; connect 185.199.110.7:8443; send 5; recv; keep kept";
const DROPPED: &str = "socket inet stream; connect 93.184.216.34:443; send 5; recv; keep idle";

#[test]
fn a_reload_holds_for_running_sessions_at_once() {
    let scene = scene();
    let mut worker = scene.worker();
    assert!(ask(&mut worker, KEPT).ok);
    assert!(ask(&mut worker, DROPPED).ok);
    scene.replace("93.184.216.34/32", "151.101.1.1/32");
    let refused = ask(&mut worker, "socket inet stream; connect 93.184.216.34:443");
    assert_eq!(refused.errno(), "EPERM");
    let opened = ask(
        &mut worker,
        "socket inet stream; connect 151.101.1.1:443; send 5; recv",
    );
    assert!(opened.ok, "{opened:?}");
    assert!(
        ask(&mut worker, "use kept; send 5; recv").ok,
        "the rule still stands"
    );
    // The idle connection sends nothing: it is found and destroyed all the same.
    let began = Instant::now();
    loop {
        let answer = ask(&mut worker, "use idle; patience 50; recv");
        if answer.errno() == "ECONNABORTED" || (answer.ok && answer.received == 0) {
            break;
        }
        assert!(
            began.elapsed() < scaled(Duration::from_secs(3)),
            "it lives on: {answer:?}"
        );
    }
}

#[test]
fn a_bad_folder_changes_nothing() {
    let scene = scene();
    let mut worker = scene.worker();
    assert!(ask(&mut worker, KEPT).ok);
    scene
        .agent
        .write_policy("other", "version = 1\ntool = 7\n")
        .expect("it is written");
    assert!(scene.agent.reload().is_err());
    let status = scene.agent.json("status").expect("the agent answers");
    assert!(status["policy_error"].is_string(), "{status}");
    assert_eq!(
        status["policies"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
    assert!(ask(&mut worker, "use kept; send 5; recv").ok);
    assert!(ask(&mut scene.worker(), KEPT).ok);
    scene.agent.remove_policy("other").expect("it is removed");
    scene.agent.reload().expect("the agent reloads");
    let status = scene.agent.json("status").expect("the agent answers");
    assert!(status["policy_error"].is_null(), "{status}");
}

#[test]
fn a_folder_with_an_impossible_name_is_refused_whole() {
    let scene = scene();
    let text = policy().replace("cidr = \"185.199.108.0/22\"", "domain = \"api.localhost\"");
    scene
        .agent
        .write_policy("prober", &text)
        .expect("it is written");
    let refused = scene.agent.reload().expect_err("no name of the network");
    assert!(format!("{refused:#}").contains("localhost"), "{refused:#}");
    assert!(ask(&mut scene.worker(), KEPT).ok, "the last good set stays");
}

#[test]
fn the_sessions_of_a_removed_tool_are_ended() {
    let scene = scene();
    let mut worker = scene.worker();
    assert!(ask(&mut worker, KEPT).ok);
    scene
        .agent
        .write_policy(
            "second",
            &policy().replace("tool = \"prober\"", "tool = \"second\""),
        )
        .expect("it is written");
    scene.agent.remove_policy("prober").expect("it is removed");
    scene.agent.reload().expect("the agent reloads");
    let ended = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let sessions = scene.agent.json("sessions").expect("the agent answers");
        sessions.as_array().is_some_and(Vec::is_empty)
    });
    assert!(ended, "the session lives on");
    assert!(worker.ask("use kept; send 5").is_err());
}
