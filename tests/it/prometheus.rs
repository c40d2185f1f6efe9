//! Debian's Prometheus with the rules of the documentation, and an agent that gives it something to
//! tell.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{Agent, METRICS},
    binary::Scratch,
    metrics,
    patience::scaled,
};
use serde_json::Value;

const PROMETHEUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const RULES: &str = include_str!("../../docs/prometheus/rules.yml");
const PATIENCE: Duration = Duration::from_mins(1);
const POLICY: &str = r#"
version = 1
tool = "web"
description = "Does nothing"
[worker]
command = ["/bin/true"]
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
"#;

/// A Prometheus that is ended with the test.
struct Prometheus {
    child: Child,
    scratch: Scratch,
}

impl Prometheus {
    /// With the rules as they are, but for their patience.
    fn start(lab: &Lab) -> Self {
        let scratch = Scratch::new().expect("a folder");
        let rules: Vec<_> = RULES
            .lines()
            .map(|line| match line.split_once("for: ") {
                Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s"),
                _ => line.to_owned(),
            })
            .collect();
        let rules = scratch
            .write("rules.yml", &rules.join("\n"))
            .expect("rules");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: stockade\n    static_configs: [{{ targets: ['{METRICS}'] }}]\n",
            rules.display()
        );
        let config = scratch.write("prometheus.yml", &config).expect("config");
        let log = fs::File::create(scratch.path().join("log")).expect("a log");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                scratch.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = lab.host().enter(|| command.spawn()).expect("the namespace");
        let child = child.expect("prometheus is missing; hint: cargo xtask setup");
        Self { child, scratch }
    }

    fn get(lab: &Lab, path: &str) -> Option<Value> {
        let text = metrics::get(lab.host(), PROMETHEUS, path).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Names of the alerts that fire.
    fn firing(lab: &Lab) -> Option<Vec<String>> {
        let answer = Self::get(lab, "/api/v1/alerts")?;
        let alerts = answer.pointer("/data/alerts")?.as_array()?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let names = firing.filter_map(|alert| alert.pointer("/labels/alertname")?.as_str());
        Some(names.map(str::to_owned).collect())
    }

    fn wait(&self, lab: &Lab, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let end = Instant::now() + scaled(PATIENCE);
        let mut last = None;
        while Instant::now() < end {
            if let Some(firing) = Self::firing(lab) {
                if is_so(&firing) {
                    return firing;
                }
                last = Some(firing);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
        panic!("{what}: {last:?}\n{log}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn has(firing: &[String], name: &str) -> bool {
    firing.iter().any(|alert| alert == name)
}

fn is_scraped(lab: &Lab) -> bool {
    let answer = Prometheus::get(lab, "/api/v1/query?query=up");
    let value = answer.and_then(|answer| {
        let value = answer.pointer("/data/result/0/value/1")?;
        Some(value == "1")
    });
    value == Some(true)
}

/// Each alert fires when its story in `tests.yml` says so, and not before.
#[test]
fn the_alerts_mean_what_their_stories_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/prometheus");
    let mut command = Command::new("promtool");
    command.args(["test", "rules", "tests.yml"]);
    let output = command.current_dir(folder).output();
    let output = output.expect("promtool is missing; hint: cargo xtask setup");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    let stories = include_str!("../../docs/prometheus/tests.yml");
    let alerts = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let story = format!("alertname: {alert}\n");
        assert!(stories.contains(&story), "{alert} has no story");
    }
}

#[test]
fn what_goes_wrong_is_told_and_what_is_mended_is_not() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let agent = Agent::start_in(lab.host(), scratch, &[("web", POLICY)]).expect("an agent");
    let prometheus = Prometheus::start(&lab);
    prometheus.wait(&lab, "scraped", |_| is_scraped(&lab));
    let quiet = prometheus.wait(&lab, "nothing to tell", <[String]>::is_empty);
    assert_eq!(quiet, Vec::<String>::new());

    agent
        .write_policy("web", "version = 1\ntool =")
        .expect("it is written");
    agent.reload().expect_err("a bad policy is refused");
    let told = prometheus.wait(&lab, "a bad policy", |firing| {
        has(firing, "StockadePolicyRejected")
    });
    assert!(!has(&told, "StockadeFenceNotAttached"), "{told:?}");

    agent.write_policy("web", POLICY).expect("it is written");
    agent.reload().expect("a good policy");
    prometheus.wait(&lab, "mended", |firing| {
        !has(firing, "StockadePolicyRejected")
    });

    sever(&agent, "bind4");
    prometheus.wait(&lab, "a hook is gone", |firing| {
        has(firing, "StockadeFenceNotAttached")
    });
    let run = agent.run("web", &[]).expect("the binary is built");
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(125), "{said}");
    assert!(said.contains("severed"), "{said}");
    assert!(
        metrics::get(lab.host(), METRICS, "/healthz").is_err(),
        "not well"
    );
}

/// Takes a hook off the way that a mistaken administrator would: its pin is removed.
fn sever(agent: &Agent, hook: &str) {
    let folder = format!("/sys/fs/bpf/{}", agent.instance());
    let versions = fs::read_dir(&folder).expect("pins");
    for version in versions.flatten() {
        let link = version.path().join(format!("link_{hook}"));
        fs::remove_file(link).expect("the link is pinned");
    }
}
