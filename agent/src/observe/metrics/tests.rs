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

use super::{
    Applied, AuditNumbers, BrokerNumbers, Fill, IssuerNumbers, Launch, Losses, Metrics,
    NameNumbers, PolicyInfo, Sample, TABLE, VerdictCount,
};

fn page() -> String {
    let metrics = Metrics::new().expect("metrics");
    metrics.launch("web", Launch::Started);
    metrics.launched_within(Duration::from_micros(700));
    metrics.reload(true);
    metrics.query("web", "answered", Duration::from_micros(30));
    let calls = metrics.calls();
    let _runs = calls.runs();
    calls.call("invoice", "create", "done");
    calls.stage("run", Duration::from_millis(3));
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
        maps: vec![Fill {
            map: "workers".to_owned(),
            entries: 1,
            capacity: 4_096,
        }],
        sessions: vec![("web".to_owned(), 1)],
        sessions_max: 64,
        policies: vec![PolicyInfo {
            tool: "web".to_owned(),
            digest: "00ff".to_owned(),
            mode: Mode::Enforce,
            generation: 4,
            self_test: Some(true),
        }],
        reload_successful: true,
        applied: Applied::default(),
        names: NameNumbers {
            up: true,
            grants: 12,
            ..NameNumbers::default()
        },
        broker: Some(BrokerNumbers {
            warm: 2,
            off: 1,
            entries: vec![("proofs", 7)],
            issuers: vec![IssuerNumbers {
                issuer: "https://id.example".to_owned(),
                keys: 3,
                age: Some(Duration::from_mins(1)),
                fetches: vec![("success", 4), ("slow", 0)],
            }],
        }),
        audit: AuditNumbers {
            up: true,
            records: 9,
            lag: Duration::from_millis(5),
            open: 2,
        },
    };
    String::from_utf8(metrics.render(&sample).expect("page")).expect("text")
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
