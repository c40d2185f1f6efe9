//! From watching to enforcing: what `policy suggest` proposes allows what was seen, and nothing that was
//! not; what nobody saw is said.

use std::process::Command;

use lab::{agent::METRICS, binary, metrics, prober::Prober};
use serde_json::Value;

use super::scene::{Scene, ask, policy, watching};

/// What the tool may from the start.
const KNOWN: &str = "[[egress.allow]]\ndomain = \"site.example\"\nports = [443, 8443]\n";

/// A scene whose prober is only watched.
fn watched() -> Scene {
    let scene = Scene::new();
    scene.put("prober", &watching(&policy("prober", KNOWN)));
    scene
}

fn suggested(scene: &Scene) -> Value {
    let mut command = Command::new(binary::stockade().expect("the binary is built"));
    command
        .args(["policy", "suggest", "prober", "--json", "--instance"])
        .arg(scene.agent.instance());
    let output = scene.world.lab.host().enter(|| command.output());
    let output = output.expect("the namespace").expect("it starts");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What the tool does: names below one parent, a name for itself, another name on a known address, an
/// address without a name.
fn scripts(scene: &Scene) -> Vec<String> {
    let authority = scene.world.tls.authority().display().to_string();
    let https = |name: &str, address: &str| {
        format!(
            "ask udp 8.8.8.8:53 {name} A; socket inet stream; connect {address}:443; \
             tls {name} {authority}"
        )
    };
    let siblings = ["a.wild.example", "b.wild.example", "c.wild.example"].map(|name| {
        format!(
            "ask udp 8.8.8.8:53 {name} A; socket inet stream; connect 93.184.216.50:8443; \
             payload hello {name}; send; recv"
        )
    });
    let mut scripts = siblings.to_vec();
    scripts.extend([
        https("v4.example", "93.184.216.36"),
        https("site.example", "93.184.216.34"),
        https("other.example", "93.184.216.34"),
        "ask udp 8.8.8.8:53 texts.example TXT".to_owned(),
        "socket inet stream; connect 185.199.110.7:9000; send 5; recv".to_owned(),
        "socket inet dgram; sendto 185.199.110.7:443 5; recv".to_owned(),
    ]);
    scripts
}

fn works(scene: &Scene, worker: &mut Prober) {
    for script in scripts(scene) {
        let answer = ask(worker, &script);
        assert!(answer.ok, "{script}: {answer:?}");
        if script.starts_with("ask") {
            let code = answer.values.first().map(String::as_str);
            assert_eq!(code, Some("NOERROR"), "{script}: {answer:?}");
            assert!(answer.values.len() > 1, "{script}: {answer:?}");
        }
    }
}

/// But for what the self-test of each new policy tries on purpose: a private address.
fn denied(scene: &Scene) -> f64 {
    let text = metrics::get(scene.world.lab.host(), METRICS, "/metrics").expect("metrics");
    let samples = metrics::parse(&text);
    let labels = ["tool=\"prober\"", "outcome=\"deny\""];
    let flows = metrics::sum(&samples, "stockade_verdicts_total", &labels);
    let on_purpose = [labels[0], labels[1], "reason=\"private_address\""];
    let flows = flows - metrics::sum(&samples, "stockade_verdicts_total", &on_purpose);
    let refused = ["tool=\"prober\"", "result=\"refused\""];
    flows + metrics::sum(&samples, "stockade_dns_queries_total", &refused)
}

#[test]
fn what_is_proposed_allows_what_was_seen_and_no_more() {
    let scene = watched();
    let mut worker = scene.prober();
    works(&scene, &mut worker);
    let suggestion = suggested(&scene);
    let lines = suggestion["toml"].as_str().expect("lines");
    for line in [
        "# No event is missing.",
        "domain = \"*.wild.example\"",
        "# below it: a.wild.example, b.wild.example, c.wild.example",
        "domain = \"v4.example\"",
        "domain = \"other.example\"",
        "records = [\"TXT\"]",
        "cidr = \"185.199.110.7/32\"\nports = [9000]",
        "protocol = \"udp\"\nports = [443]",
    ] {
        assert!(lines.contains(line), "no `{line}`:\n{lines}");
    }
    assert!(!lines.contains("site.example"), "it has its rule:\n{lines}");
    assert_eq!(suggestion["rules"], 6, "{lines}");
    // Control: without the lines it does not work.
    scene.replace("prober", KNOWN);
    let refused = ask(&mut worker, &scripts(&scene)[0]);
    assert!(!refused.ok, "{refused:?}");
    scene.replace("prober", &format!("{KNOWN}{lines}"));
    let before = denied(&scene);
    for mut worker in [worker, scene.prober()] {
        works(&scene, &mut worker);
    }
    assert!((denied(&scene) - before).abs() < 0.1, "nothing is refused");
    let mut worker = scene.prober();
    for script in [
        "socket inet stream; connect 185.199.110.7:9001",
        "socket inet stream; connect 185.199.110.8:9000",
        "ask udp 8.8.8.8:53 v4.example A; socket inet stream; connect 93.184.216.36:8443",
    ] {
        let answer = ask(&mut worker, script);
        assert_eq!(answer.errno(), "EPERM", "{script}: {answer:?}");
    }
    let answer = ask(&mut worker, "ask udp 8.8.8.8:53 strange.example A");
    assert_eq!(answer.values, ["NXDOMAIN"]);
    scene.end();
}

#[test]
fn events_that_nobody_saw_are_said() {
    let scene = watched();
    let mut worker = scene.prober();
    // More at once than one session may tell of in a second.
    let sends: Vec<_> = (0..2_000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            format!("sendto 8.9.{high}.{low}:9 5")
        })
        .collect();
    let answer = ask(
        &mut worker,
        &format!("socket inet dgram; {}", sends.join("; ")),
    );
    assert!(answer.ok, "{answer:?}");
    let suggestion = suggested(&scene);
    let lines = suggestion["toml"].as_str().expect("lines");
    let (missing, rules) = (suggestion["missing"].as_u64(), suggestion["rules"].as_u64());
    let (missing, rules) = (missing.expect("a number"), rules.expect("a number"));
    assert!(missing > 0 && rules > 0, "{missing} missing, {rules} rules");
    assert!(missing + rules >= 2_000, "{missing} missing, {rules} rules");
    assert!(lines.contains("# Missing: "), "{lines}");
    assert!(!lines.contains("No event is missing"), "{lines}");
}
