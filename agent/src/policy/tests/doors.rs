//! `[[local.allow]] unix`: what compiles, what is said of it.

use std::path::Path;

use common::verdict::{Reason, Verdict};

use crate::policy::{caution, compile, compiled::CompiledPolicy, explain::explain_unix};

fn with(local: &str) -> Result<CompiledPolicy, String> {
    let text = format!("version = 1\ntool = \"t\"\n[[local.allow]]\n{local}\n");
    compile("t.toml", &text).map_err(|error| error.plain())
}

#[test]
fn a_door_is_a_rule_without_address_and_port() {
    let policy = with("unix = \"/run/postgresql/.s.PGSQL.5432\"").unwrap();
    let [rule] = policy.egress.rules.as_slice() else {
        panic!("{:?}", policy.egress.rules);
    };
    assert_eq!(rule.text, "unix /run/postgresql/.s.PGSQL.5432");
    assert!(policy.egress.table.is_empty() && policy.egress.is_offline());
    let doors: Vec<_> = policy.egress.unix_doors().collect();
    assert_eq!(
        doors,
        [(Path::new("/run/postgresql/.s.PGSQL.5432"), rule.id)]
    );
    let other = with("unix = \"/run/postgresql/.s.PGSQL.5433\"").unwrap();
    assert_ne!(other.digest, policy.digest);
}

#[test]
fn what_is_no_door_is_an_error() {
    let long = format!("unix = \"/run/{}\"", "a".repeat(103));
    for (local, code) in [
        ("unix = \"run/x\"", "bad_path"),
        ("unix = \"/run/../x\"", "bad_path"),
        ("unix = \"/tmp/x.sock\"", "bad_path"),
        ("unix = \"/workdir/x.sock\"", "bad_path"),
        ("unix = \"/dev/log\"", "bad_path"),
        ("unix = \"/proc/1/root/run/x\"", "bad_path"),
        ("unix = \"/\"", "bad_path"),
        (long.as_str(), "bad_path"),
        ("unix = \"/run/x\"\ntcp = \"127.0.0.1:1\"", "missing_key"),
        ("loopback = \"any\"", "unknown_value"),
        ("loopback = \"own\"\ntcp = \"127.0.0.1:1\"", "missing_key"),
    ] {
        let error = with(local).expect_err(local);
        assert!(
            error.contains(&format!("error[{code}]")),
            "{local}: {error}"
        );
    }
    let longest = format!("unix = \"/run/{}\"", "a".repeat(102));
    assert!(with(&longest).is_ok());
    let twice = "unix = \"/run/x\"\n[[local.allow]]\nunix = \"/run/x\"";
    assert!(with(twice).expect_err("twice").contains("is there twice"));
}

#[test]
fn explaining_answers_by_the_letter() {
    let policy = with("unix = \"/run/x.sock\"").unwrap();
    let answer = explain_unix(&policy, Path::new("/run/x.sock"));
    assert_eq!(answer.verdict, Verdict::Allow(policy.egress.rules[0].id));
    assert!(answer.rule.is_some() && answer.hint.is_none());
    for path in ["/run//x.sock", "/run/x.sock2", "/run/docker.sock"] {
        let answer = explain_unix(&policy, Path::new(path));
        assert_eq!(answer.verdict, Verdict::Deny(Reason::UnixSocket));
        let hint = answer.hint.unwrap();
        assert_eq!(hint, format!("[[local.allow]]\nunix = \"{path}\""));
    }
}

#[test]
fn doors_to_the_rulers_of_a_host_are_warned_of() {
    let cautions = |path: &str| {
        let policy = with(&format!("unix = \"{path}\"")).unwrap();
        caution::cautions(&policy).len()
    };
    assert_eq!(cautions("/run/postgresql/.s.PGSQL.5432"), 1);
    assert_eq!(cautions("/run/docker.sock"), 2);
    assert_eq!(cautions("/run/systemd/private"), 2);
}
