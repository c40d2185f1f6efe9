//! The policies that are shipped: all of them compile, and the schema is what the code says.

use std::path::{Path, PathBuf};

use common::{decide::Mode, flow::TCP, verdict::Verdict};

use crate::policy::{
    compiled::{LockRule, PinKind, ToolName},
    explain::{Asked, Destination, explain, explain_name, explain_unix},
    model::Model,
    schema,
    store::{self, PolicySet},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

fn set() -> PolicySet {
    store::read_directory(&folder()).unwrap()
}

#[test]
fn every_shipped_policy_compiles_and_is_named_after_its_file() {
    let set = set();
    assert!(set.len() >= 11);
    for policy in set.iter() {
        assert!(folder().join(format!("{}.toml", policy.tool)).is_file());
        assert!(!policy.description.is_empty());
    }
}

#[test]
fn the_default_reaches_nothing() {
    let set = set();
    let policy = set.get(&ToolName::parse("default").unwrap()).unwrap();
    assert_eq!(policy.mode, Mode::Enforce);
    assert!(policy.egress.table.is_empty());
    assert!(policy.filesystem.write.is_empty());
}

#[test]
fn the_pinned_example_holds_its_lock_and_the_report_its_output() {
    let set = set();
    let pinned = set.get(&ToolName::parse("pinned").unwrap()).unwrap();
    assert_eq!(pinned.worker.lock, LockRule::Required);
    let kinds: Vec<PinKind> = pinned.worker.pins.iter().map(|pin| pin.kind).collect();
    assert_eq!(kinds, [PinKind::File, PinKind::File, PinKind::Directory]);
    let file = folder().join("pinned.toml");
    let lock = store::read_lock(&file).unwrap().unwrap();
    let text = std::fs::read_to_string(store::lock_path(&file)).unwrap();
    assert_eq!(lock.text("pinned.toml"), text);
    let report = set.get(&ToolName::parse("report").unwrap()).unwrap();
    let output = report.filesystem.output.as_ref().unwrap();
    assert_eq!((output.umask, output.group), (0o027, 1000));
    assert_eq!(report.filesystem.tmp_inodes, 20_000);
}

#[test]
fn the_worked_examples_reach_what_they_say() {
    let set = set();
    let passes = |tool: &str, destination: &str| {
        let policy = set.get(&ToolName::parse(tool).unwrap()).unwrap();
        let model = Model::new(policy, std::collections::BTreeSet::new());
        let destination = destination.parse().unwrap();
        explain(policy, &model, destination).verdict.passes()
    };
    assert!(passes("public-api", "140.82.121.6:443"));
    assert!(!passes("public-api", "140.82.121.6:80"));
    assert!(passes("internal-database", "10.20.0.5:5432"));
    assert!(!passes("internal-database", "10.20.0.6:5432"));
    assert!(passes("local-database", "127.0.0.1:6379"));
    assert!(!passes("local-database", "127.0.0.2:6379"));
    let socket = |path: &str| {
        let policy = set.get(&ToolName::parse("unix-socket").unwrap()).unwrap();
        let answer = explain_unix(policy, Path::new(path));
        answer.verdict.passes()
    };
    assert!(socket("/run/postgresql/.s.PGSQL.5432"));
    assert!(!socket("/run/postgresql/.s.PGSQL.5433"));
    let notebook = |destination| {
        let policy = set.get(&ToolName::parse("own-loopback").unwrap()).unwrap();
        let model = Model::new(policy, std::collections::BTreeSet::new());
        let destination: Destination = str::parse(destination).unwrap();
        explain(policy, &model, destination).verdict
    };
    for own in [
        "127.0.0.1:8888",
        "127.0.1.1:8888",
        "[::1]:8888",
        "127.0.0.1:8888/udp",
    ] {
        assert!(matches!(notebook(own), Verdict::AllowOwn(_)), "{own}");
    }
    assert!(!notebook("192.168.77.1:8888").passes());
    assert!(!notebook("0.0.0.0:8888").passes());
    assert_eq!(notebook("127.0.0.1:53"), Verdict::Resolver);
    assert!(passes("time-check", "162.159.200.1:123/udp"));
    assert!(!passes("time-check", "162.159.200.1:123/tcp"));
    assert!(passes("observe", "8.8.8.8:443"));
    assert!(!passes("observe", "169.254.169.254:80"));
    assert!(!passes("strict", "8.8.8.8:443"));
    let named = |tool: &str, destination: &str| {
        let policy = set.get(&ToolName::parse(tool).unwrap()).unwrap();
        let model = Model::new(policy, std::collections::BTreeSet::new());
        let Asked::Name(destination) = destination.parse().unwrap() else {
            panic!("{destination} is no name");
        };
        explain_name(policy, &model, destination, &[]).verdict
    };
    assert!(matches!(
        named("names", "https://api.github.com/zen"),
        Verdict::AllowNamed(_)
    ));
    assert!(matches!(named("names", "github.com:22"), Verdict::Allow(_)));
    assert!(!named("names", "https://gist.github.com/").passes());
    assert!(named("wildcard", "https://files.pythonhosted.org/").passes());
    assert!(!named("wildcard", "https://pythonhosted.org/").passes());
    assert!(matches!(
        named("observe", "https://elsewhere.example/"),
        Verdict::Observe(_)
    ));
    let python = set
        .get(&ToolName::parse("python-fetcher").unwrap())
        .unwrap();
    assert!(python.egress.rules.iter().all(|rule| rule.protocol == TCP));
}

#[test]
fn the_servers_from_the_registries_reach_their_job_alone() {
    let set = set();
    for tool in ["fetch", "filesystem", "git", "time"] {
        let policy = set.get(&ToolName::parse(tool).unwrap()).unwrap();
        assert!(policy.filesystem.write.is_empty(), "{tool}");
        assert_eq!(policy.worker.pins.len(), 1, "{tool}: its code is pinned");
        for verb in &policy.verbs {
            assert!(verb.pin.is_some(), "{tool}: each definition is pinned");
        }
        let model = Model::new(policy, std::collections::BTreeSet::new());
        let verdict = |asked: &str| match asked.parse().unwrap() {
            Asked::Name(name) => explain_name(policy, &model, name, &[]).verdict.passes(),
            Asked::Address(address) => explain(policy, &model, address).verdict.passes(),
            Asked::Unix(path) => explain_unix(policy, &path).verdict.passes(),
        };
        let is_fetch = tool == "fetch";
        assert_eq!(verdict("https://docs.python.org/"), is_fetch, "{tool}");
        for beside in [
            "https://python.org/",
            "docs.python.org:80",
            "140.82.121.6:443",
            "127.0.0.1:443",
            "169.254.169.254:80",
        ] {
            assert!(!verdict(beside), "{tool}: {beside}");
        }
    }
}

#[test]
fn the_committed_schema_is_what_the_code_says() {
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    expect_test::expect_file![folder().join("policy.schema.json")].assert_eq(&text);
}
