//! What Prometheus would scrape.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use lab::{
    Lab,
    agent::{Agent, METRICS},
    binary::Scratch,
    metrics,
    prober::Prober,
};

use crate::rows;

#[test]
fn verdicts_are_counted_and_promtool_is_content() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    scratch.install("prober").expect("the prober is built");
    let policy = rows::POLICY.replace("{program}", "{scratch}");
    let agent = Agent::start_in(lab.host(), scratch, &[("prober", &policy)]).expect("an agent");
    let mut command = agent.tool("prober", &[]).expect("the binary is built");
    let mut worker = Prober::start(lab.host(), &mut command).expect("the worker starts");
    for script in [
        "socket inet stream; connect 93.184.216.34:443; send 5; recv",
        "socket inet stream; connect 1.2.3.4:443",
        "socket inet stream; connect 1.2.3.4:443",
        "socket inet dgram; sendto 169.254.169.254:80 5",
    ] {
        worker.ask(script).expect("the worker answers");
    }
    let text = metrics::get(lab.host(), METRICS, "/metrics").expect("metrics");
    let samples = metrics::parse(&text);
    let count = |labels: &[&str]| metrics::sum(&samples, "stockade_verdicts_total", labels);
    let refused = [
        "tool=\"prober\"",
        "outcome=\"deny\"",
        "reason=\"not_allowed\"",
    ];
    assert!((count(&refused) - 2.0).abs() < 0.1, "{text}");
    assert!(count(&["outcome=\"allow\""]) >= 1.0, "{text}");
    assert!(
        count(&["reason=\"private_address\"", "protocol=\"udp\""]) >= 1.0,
        "{text}"
    );
    let sessions = metrics::sum(&samples, "stockade_sessions", &["tool=\"prober\""]);
    assert!((sessions - 1.0).abs() < 0.1, "{text}");
    for name in [
        "stockade_build_info",
        "stockade_events_lost_total",
        "stockade_launch_duration_seconds_count",
        "stockade_map_entries",
        "stockade_policy_generation",
        "stockade_policy_info",
    ] {
        assert!(
            samples.iter().any(|sample| sample.name == name),
            "{name} is missing:\n{text}"
        );
    }
    promtool(&text);
    let health = metrics::get(lab.host(), METRICS, "/healthz").expect("health");
    assert!(!health.is_empty());
}

fn promtool(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing; hint: cargo xtask setup");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.trim().is_empty(), "promtool: {said}");
}
