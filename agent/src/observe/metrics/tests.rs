//! The page as Prometheus' own checker sees it.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use common::{
    decide::Mode,
    event::Hook,
    verdict::{Outcome, Reason},
};

use expect_test::expect_file;

use super::{
    Applied, AuditNumbers, BrokerNumbers, CheckpointNumbers, Fill, IssuerNumbers, Launch, Losses,
    Metrics, NameNumbers, PlaceNumbers, PolicyInfo, Sample, Stage, TABLE, VerdictCount,
};

fn page() -> String {
    let metrics = Metrics::new(8).expect("metrics");
    metrics.launch("web", Launch::Started);
    metrics.launched_within(Duration::from_micros(700));
    metrics.reload(true);
    metrics.new_destination("web");
    metrics.attach_refused("weak");
    metrics.policy_change("push", true);
    metrics.query("web", "answered", Duration::from_micros(30));
    let calls = metrics.calls();
    let _runs = calls.runs();
    calls.call("invoice", "create", "done");
    calls.stage(Stage::Run, Duration::from_millis(3));
    calls.worker("invoice", true);
    let sample = Sample {
        verdicts: vec![VerdictCount {
            tool: "web".to_owned(),
            outcome: Outcome::Deny,
            reason: Reason::NotAllowed,
            protocol: 6,
            hook: Hook::Connect,
            count: 3,
        }],
        losses: Losses {
            events_lost: 1,
            ..Losses::default()
        },
        hooks: vec![("egress", true), ("connect4", false)],
        maps: vec![Fill {
            map: "workers".to_owned(),
            entries: 1,
            capacity: 4_096,
        }],
        sessions: vec![("web".to_owned(), 1)],
        sessions_max: 64,
        attachments: vec![("web".to_owned(), "fenced".to_owned(), true)],
        places: places(),
        policies: vec![PolicyInfo {
            tool: "web".to_owned(),
            digest: "00ff".to_owned(),
            mode: Mode::Enforce,
            generation: 4,
            self_test: Some(true),
        }],
        reload_successful: true,
        policies_last_good: true,
        policies_kept: true,
        applied: Applied::default(),
        names: NameNumbers {
            up: true,
            grants: 12,
            ..NameNumbers::default()
        },
        broker: Some(broker()),
        audit: AuditNumbers {
            up: true,
            records: 9,
            lag: Duration::from_millis(5),
            open: 2,
        },
        checkpoints: vec![CheckpointNumbers {
            place: "file-1".to_owned(),
            lag: Duration::from_secs(90),
            sent: vec![("kept", 6), ("failed", 1)],
        }],
        log_suppressed: 4,
    };
    String::from_utf8(metrics.render(&sample).expect("page")).expect("text")
}

fn broker() -> BrokerNumbers {
    BrokerNumbers {
        warm: 2,
        off: 1,
        entries: vec![("proofs", 7)],
        issuers: vec![IssuerNumbers {
            issuer: "https://id.example".to_owned(),
            keys: 3,
            age: Some(Duration::from_mins(1)),
            fetches: vec![("success", 4), ("slow", 0)],
        }],
    }
}

fn places() -> PlaceNumbers {
    PlaceNumbers {
        waiting: vec![("web".to_owned(), 2)],
        max: 32,
        made: 9,
        failed: 1,
        missed: 3,
        gone: vec![("used", 6), ("idle", 1)],
    }
}

#[test]
fn every_row_of_the_table_is_on_the_page() {
    let page = page();
    for row in TABLE {
        let lines: Vec<_> = page
            .lines()
            .filter(|line| {
                line.strip_prefix(row.name).is_some_and(|rest| {
                    ["{", " ", "_bucket{"]
                        .iter()
                        .any(|next| rest.starts_with(next))
                })
            })
            .collect();
        assert!(!lines.is_empty(), "{} is missing", row.name);
        for label in row.labels {
            assert!(
                lines
                    .iter()
                    .all(|line| line.contains(&format!("{label}=\""))),
                "{}: label {label} is missing",
                row.name
            );
        }
    }
}

#[test]
fn values_are_the_samples() {
    let page = page();
    for line in [
        "stockade_verdicts_total{hook=\"connect\",outcome=\"deny\",protocol=\"tcp\",\
         reason=\"not_allowed\",tool=\"web\"} 3",
        "stockade_events_lost_total 1",
        "stockade_policy_generation{tool=\"web\"} 4",
        "stockade_policy_self_test_passed{tool=\"web\"} 1",
        "stockade_places{tool=\"web\"} 2",
        "stockade_places_max 32",
        "stockade_places_made_total{result=\"failure\"} 1",
        "stockade_places_gone_total{why=\"used\"} 6",
        "stockade_places_missed_total 3",
        "stockade_grants 12",
        "stockade_calls_total{outcome=\"done\",tool=\"invoice\",verb=\"create\"} 1",
        "stockade_calls_running 1",
        "stockade_call_workers_total{start=\"warm\",tool=\"invoice\"} 1",
        "stockade_warm_workers 2",
        "stockade_broker_entries{store=\"proofs\"} 7",
        "stockade_issuer_keys{issuer=\"https://id.example\"} 3",
        "stockade_issuer_keys_age_seconds{issuer=\"https://id.example\"} 60",
        "stockade_issuer_fetches_total{issuer=\"https://id.example\",outcome=\"success\"} 4",
        "stockade_dns_up 1",
        "stockade_audit_up 1",
        "stockade_audit_records_total 9",
        "stockade_audit_lag_seconds 0.005",
        "stockade_audit_open 2",
        "stockade_checkpoint_lag_seconds{place=\"file-1\"} 90",
        "stockade_checkpoints_total{outcome=\"failed\",place=\"file-1\"} 1",
        "stockade_observed_tools 0",
        "stockade_dns_queries_total{result=\"answered\",tool=\"web\"} 1",
        "stockade_dns_query_duration_seconds_bucket{le=\"0.00005\"} 1",
        "stockade_launches_total{result=\"started\",tool=\"web\"} 1",
        "stockade_launch_duration_seconds_bucket{le=\"0.00075\"} 1",
    ] {
        assert!(page.contains(line), "missing: {line}\n{page}");
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool of Debian's package `prometheus` is needed");
    let mut stdin = promtool.stdin.take().expect("stdin");
    stdin.write_all(page().as_bytes()).expect("write");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "", "promtool warns");
}

#[test]
fn the_documentation_is_the_table() {
    let page = page();
    let mut text = String::from(
        "# Metrics\n\n\
         What `/metrics` serves, in Prometheus' text format 0.0.4 (in gzip where the client takes it). Every \
         label has a bounded set of values: tools and verbs have labels of their own up to \
         `metrics_tools` in stockade.toml (four times as many verbs), what is over is `other`; nothing that a \
         caller or a worker wrote becomes a label.\n\n\
         [`prometheus/rules.yml`](prometheus/rules.yml) has recording rules and alerts, \
         [`prometheus/tests.yml`](prometheus/tests.yml) says when each of them fires, \
         [`prometheus/dashboard.json`](prometheus/dashboard.json) is for Grafana. The rules want the job to be \
         called `stockade`:\n\n\
         ```yaml\nrule_files: [/usr/share/doc/stockade/prometheus/rules.yml]\nscrape_configs:\n  - \
         job_name: stockade\n    static_configs: [{ targets: [\"127.0.0.1:9464\"] }]\n```\n\n\
         <!-- Generated from agent/src/observe/metrics.rs: `UPDATE_EXPECT=1 cargo test -p agent metrics`. \
         -->\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for row in TABLE {
        let prefix = format!("# TYPE {} ", row.name);
        let mut kinds = page.lines().filter_map(|line| line.strip_prefix(&prefix));
        let kind = kinds.next().expect("a type");
        let labels: Vec<_> = row.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = labels.join(", ");
        let line = format!("| `{}` | {kind} | {labels} | {} |\n", row.name, row.help);
        text.push_str(&line);
    }
    expect_file!["../../../../docs/metrics.md"].assert_eq(&text);
}

#[test]
fn what_rules_and_dashboard_name_is_there() {
    let docs = [
        include_str!("../../../../docs/prometheus/rules.yml"),
        include_str!("../../../../docs/prometheus/tests.yml"),
        include_str!("../../../../docs/prometheus/dashboard.json"),
    ];
    let suffixes = ["_bucket", "_sum", "_count"];
    for text in docs {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        for word in words.filter(|word| word.starts_with("stockade_")) {
            let base = suffixes.iter().find_map(|end| word.strip_suffix(end));
            let is_metric = |name: &str| TABLE.iter().any(|row| row.name == name);
            assert!(is_metric(base.unwrap_or(word)), "{word} is no metric");
        }
    }
}

#[test]
fn tools_without_a_label_share_one() {
    let metrics = Metrics::new(1).expect("metrics");
    let policy = |tool: &str, passed| PolicyInfo {
        tool: tool.to_owned(),
        digest: "00".to_owned(),
        mode: Mode::Enforce,
        generation: 3,
        self_test: Some(passed),
    };
    for tool in ["a", "b", "c"] {
        metrics.launch(tool, Launch::Started);
        metrics.calls().call(tool, "get", "done");
    }
    let sample = Sample {
        sessions: ["a", "b", "c"].map(|tool| (tool.to_owned(), 2)).to_vec(),
        policies: vec![policy("a", true), policy("b", true), policy("c", false)],
        ..Sample::default()
    };
    let page = String::from_utf8(metrics.render(&sample).expect("page")).expect("text");
    for line in [
        "stockade_launches_total{result=\"started\",tool=\"a\"} 1",
        "stockade_launches_total{result=\"started\",tool=\"other\"} 2",
        "stockade_calls_total{outcome=\"done\",tool=\"other\",verb=\"get\"} 2",
        "stockade_sessions{tool=\"a\"} 2",
        "stockade_sessions{tool=\"other\"} 4",
        "stockade_policy_self_test_passed{tool=\"other\"} 0",
    ] {
        assert!(page.contains(line), "missing: {line}\n{page}");
    }
    assert!(
        !page.contains("tool=\"b\"") && !page.contains("tool=\"c\""),
        "{page}"
    );
}
