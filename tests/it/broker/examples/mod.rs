//! The worked examples with servers from the registries: each does its job through the broker, in the
//! fence of its policy, and what lies beside its job fails at the fence, also where the server would.

mod files;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use lab::{
    Lab,
    agent::{self, Agent},
    binary::{self, Scratch},
    dns::{self, NameServer},
    tls::TlsServers,
};
use serde_json::json;

use super::{
    EXAMPLES, Scene,
    caller::{Answer, Caller},
    text,
};

/// Names of one address, each with a certificate; the example may read the first.
const SITES: [&str; 2] = ["site.example", "other.example"];
/// Dials, and tells how that went.
const DIALS: &str = "import socket\n\
    for place in [('93.184.216.34', 443), ('127.0.0.1', 9464)]:\n\
    \x20try: socket.create_connection(place, 5); print('reached')\n\
    \x20except OSError as error: print(type(error).__name__)\n\
    try: print(socket.gethostbyname('site.example'))\n\
    except OSError as error: print(type(error).__name__)";

/// A policy of the examples, with the servers where the tests have them and all else in the scratch
/// folder.
pub(super) fn example(name: &str) -> String {
    let servers = |registry| {
        let folder = binary::servers(registry).expect("it is installed");
        folder.display().to_string()
    };
    let examples = fs::canonicalize(EXAMPLES).expect("the examples");
    let policy = fs::read_to_string(examples.join(format!("{name}.toml"))).expect("an example");
    let registry = match name {
        "filesystem" => "npm",
        _ => "pypi",
    };
    policy
        .replace(&format!("/opt/tools/{name}"), &servers(registry))
        .replace("\"schemas/", &format!("\"{}/schemas/", examples.display()))
        .replace("/srv", "{scratch}")
}

/// An agent with these policies, and a folder in which `prepare` puts what they are for.
fn scene(policies: &[(&str, &str)], prepare: impl FnOnce(&Lab, &Path)) -> Scene {
    let lab = Lab::unrecorded(&[]).expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    prepare(&lab, scratch.path());
    let agent = Agent::start_in(lab.host(), scratch, policies).expect("an agent");
    Scene { lab, agent }
}

fn folder(path: &Path) {
    fs::create_dir_all(path).expect("a folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

impl Scene {
    /// The text of an answer that is one.
    fn told(
        &self,
        caller: &Caller,
        [tool, verb]: [&str; 2],
        arguments: serde_json::Value,
    ) -> String {
        let answer = caller.call(tool, verb, arguments);
        assert!(answer.is_done(), "{answer:?}\n{}", self.agent.log());
        answer.text()
    }

    /// The text of the failure that the server tells of.
    fn failed(
        &self,
        caller: &Caller,
        [tool, verb]: [&str; 2],
        arguments: serde_json::Value,
    ) -> String {
        let answer = caller.call(tool, verb, arguments);
        let is_error = (answer.status, &answer.body["isError"]) == (200, &json!(true));
        assert!(is_error, "{answer:?}\n{}", self.agent.log());
        answer.text()
    }
}

impl Answer {
    /// What its blocks of text say.
    fn text(&self) -> String {
        let blocks = self.body["content"].as_array().expect("blocks");
        let texts = blocks.iter().filter_map(|block| block["text"].as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn time_tells_the_time_and_converts_it() {
    let policy = example("time");
    let changed = policy
        .replace("tool = \"time\"", "tool = \"changed\"")
        .replace("pin = \"67c5", "pin = \"67c4");
    let scene = scene(&[("time", &policy), ("changed", &changed)], |_, _| {});
    let alice = scene.caller_of("alice", &["time:read"], &["--session-hash", "one"]);
    let zone = json!({"timezone": "Asia/Tokyo"});
    let now = alice.call("time", "now", zone.clone());
    assert!(now.is_done(), "{now:?}\n{}", scene.agent.log());
    assert_eq!(now.structured()["timezone"], "Asia/Tokyo");
    let noon =
        json!({"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let converted = alice.call("time", "convert", noon);
    let difference = &converted.structured()["time_difference"];
    assert_eq!(difference, "+9.0h", "{converted:?}");
    let nowhere = scene.failed(&alice, ["time", "now"], json!({"timezone": "Nowhere/City"}));
    assert!(nowhere.contains("Nowhere/City"), "{nowhere}");
    for bad in [
        json!({"timezone": "../../etc/passwd"}),
        json!({"timezone": "Etc/UTC", "x": 1}),
    ] {
        assert_eq!(alice.call("time", "now", bad).reason(), "arguments_refused");
    }
    // A definition that is not the pinned one stops its verb.
    assert_eq!(alice.call("changed", "now", zone).reason(), "tool_pin");
    scene.end();
}

/// The fence of `time` around a program that tries what the server has no way to try.
#[test]
fn the_fence_of_time_reaches_no_network() {
    let policy = example("time");
    let (fence, _) = policy.split_once("[[verb]]").expect("a verb");
    let command = fence.lines().find(|line| line.starts_with("command"));
    let dials = format!("command = [\"/usr/bin/python3\", \"-c\", {DIALS:?}]");
    let probe = fence
        .replace(command.expect("a command"), &dials)
        .replace(
            "protocol = \"mcp\"\nreuse = \"session\"",
            "protocol = \"exec\"",
        )
        .replace("tool = \"time\"", "tool = \"probe\"");
    let opened = probe.replace("tool = \"probe\"", "tool = \"opened\"")
        + "[[egress.allow]]\ncidr = \"93.184.216.0/24\"\nports = [443]\n";
    let mut tls = None;
    let policies = [("probe", probe.as_str()), ("opened", opened.as_str())];
    let scene = scene(&policies, |lab, scratch| {
        let servers = TlsServers::start(lab.world(), scratch, &[443], &SITES);
        tls = Some(servers.expect("TLS servers"));
    });
    let said = |tool| text(&scene.agent.run(tool, &[]).expect("it runs").stdout);
    let refused = said("probe");
    assert_eq!(refused, "PermissionError\nPermissionError\ngaierror\n");
    assert_eq!(said("opened"), "reached\nPermissionError\ngaierror\n");
    drop(tls);
    scene.end();
}

#[test]
fn a_server_whose_code_changed_does_not_start() {
    let policy = example("time");
    let sum = policy.find("sha256 = \"").expect("a pin") + "sha256 = \"".len();
    let mut changed = policy;
    let other = if changed[sum..].starts_with('0') {
        "1"
    } else {
        "0"
    };
    changed.replace_range(sum..=sum, other);
    let scene = scene(&[("time", &changed)], |_, _| {});
    let alice = scene.caller("alice", &["time:read"]);
    let refused = alice.call("time", "now", json!({"timezone": "Etc/UTC"}));
    assert_eq!(refused.reason(), "launch_failed", "{refused:?}");
    let log = scene.agent.log();
    assert!(log.contains("mcp_server_time"), "{log}");
    scene.end();
}

#[test]
fn fetch_reads_its_site_and_no_other() {
    let policy = example("fetch")
        .replace("docs.python.org\"\nports", "site.example\"\nports")
        .replace("/etc/ssl/certs/ca-certificates.crt", "{scratch}/world.crt")
        .replace("\"/etc/ssl/certs\"", "\"{scratch}/world.crt\"");
    // The control: the same with one more name.
    let both = policy.replace("tool = \"fetch\"", "tool = \"both\"")
        + "\n[[egress.allow]]\ndomain = \"other.example\"\nports = [443]\n";
    let mut world = None;
    let scene = scene(&[("fetch", &policy), ("both", &both)], |lab, scratch| {
        fs::write(scratch.join(agent::CONFIGURATION), dns::CONFIGURATION).expect("a file");
        let tls = TlsServers::start(lab.world(), scratch, &[443], &SITES).expect("TLS servers");
        let names = NameServer::start(lab.world()).expect("a name server");
        world = Some((tls, names));
    });
    let (tls, names) = world.expect("a world");
    let alice = scene.caller_of("alice", &["web:read"], &["--session-hash", "one"]);
    let page = |url: &str| json!({"url": url, "raw": true});
    let got = scene.told(&alice, ["fetch", "fetch"], page("https://site.example/"));
    assert!(got.contains("hello from site.example"), "{got}");
    let plain = alice.call("fetch", "fetch", page("http://site.example/"));
    assert_eq!(plain.reason(), "arguments_refused");

    let beside = [
        ("https://other.example/", "another name on the same address"),
        (
            "https://site.example/to/other.example",
            "a page that leads there",
        ),
        ("https://93.184.216.34/", "the address without its name"),
        ("https://10.0.0.1/", "a private address"),
        ("https://127.0.0.1:9464/metrics", "the host itself"),
        ("https://site.example:8443/", "another port"),
    ];
    for (url, what) in beside {
        let refused = scene.failed(&alice, ["fetch", "fetch"], page(url));
        assert!(!refused.contains("hello from"), "{what}: {refused}");
    }
    assert_eq!(tls.visits_of("other.example"), 0, "{:?}", tls.visits());
    assert!(!names.knows_of("other.example"), "the name left the host");
    for (url, what) in &beside[..2] {
        let got = scene.told(&alice, ["both", "fetch"], page(url));
        assert!(got.contains("hello from other.example"), "{what}: {got}");
    }
    assert!(tls.visits_of("other.example") > 0, "the control sees it");
    scene.end();
}
