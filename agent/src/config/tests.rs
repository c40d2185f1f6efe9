//! Configuration files in, configuration or error out.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use expect_test::{Expect, expect};

use super::{Config, KernelLog, Metrics, Refusal};

fn check_error(text: &str, expected: &Expect) {
    let error = Config::parse(Path::new("stockade.toml"), text).expect_err("must be refused");
    expected.assert_eq(&error.to_string());
}

#[test]
fn an_empty_file_is_the_default() {
    let config = Config::parse(Path::new("stockade.toml"), "").expect("valid");
    assert_eq!(config, Config::default());
    // Who may call may not push policies, unless somebody says so.
    assert_ne!(config.control_group, config.broker.calls.group);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        instance = "lab"
        policies = "/tmp/policies"
        control_group = "adm"
        metrics = "off"
        [log]
        level = "debug"
        format = "json"
        kernel = "debug"
        [sessions]
        max = 7
        ahead = 0
        drain = "15s"
        [dns]
        refusal = "refused"
        [broker.calls]
        group = "mail"
    "#;
    let config = Config::parse(Path::new("stockade.toml"), text).expect("valid");
    assert_eq!(config.instance.name(), "lab");
    assert_eq!(config.policies, Path::new("/tmp/policies"));
    assert_eq!(config.control_group, "adm");
    assert_eq!(config.broker.calls.group, "mail");
    assert_eq!(config.metrics, Metrics::Off);
    assert_eq!(config.log_level, "debug");
    assert_eq!(config.kernel_log, KernelLog::Debug);
    assert_eq!(config.sessions_max, 7);
    assert_eq!(config.sessions_ahead, 0);
    assert_eq!(config.drain.as_secs(), 15);
    assert_eq!(config.dns.refusal, Refusal::Refused);
}

#[test]
fn errors_name_the_place() {
    check_error(
        "instance = \"a\"\nmetric = \"off\"\n",
        &expect![
            "configuration `stockade.toml`: line 2, column 1: unknown field `metric`, expected one of `instance`, `policies`, `policies_history`, `policies_watch`, `control_group`, `metrics`, `metrics_tools`, `log`, `sessions`, `dns`, `broker`, `audit`"
        ],
    );
    check_error(
        "\nmetrics = \"9464\"\n",
        &expect![
            "configuration `stockade.toml`: line 2: `metrics`: `9464` is neither an address with a port nor `off`\nhint: `127.0.0.1:9464`"
        ],
    );
    check_error(
        "policies = \"relative\"\n",
        &expect!["configuration `stockade.toml`: line 1: `policies`: not an absolute path"],
    );
    check_error(
        "instance = \"Upper\"\n",
        &expect![
            "configuration `stockade.toml`: line 1: `instance`: instance name `Upper`: 1 to 40 lower-case letters, digits and `-`, beginning with a letter"
        ],
    );
    check_error(
        "[sessions]\nmax = 0\n",
        &expect![
            "configuration `stockade.toml`: line 2: `sessions.max`: 0 is not within 1 and 4096"
        ],
    );
    check_error(
        "[sessions]\nahead = 257\n",
        &expect!["configuration `stockade.toml`: line 2: `sessions.ahead`: 257 is more than 256"],
    );
    check_error(
        "[sessions]\ndrain = \"61s\"\n",
        &expect![
            "configuration `stockade.toml`: line 2: `sessions.drain`: `61s` is no time up to 60 seconds\nhint: `15s`"
        ],
    );
    check_error(
        "[log]\nformat = \"xml\"\n",
        &expect![
            "configuration `stockade.toml`: line 2, column 10: unknown variant `xml`, expected one of `auto`, `text`, `json`"
        ],
    );
    check_error(
        "[log]\nkernel = \"on\"\n",
        &expect![
            "configuration `stockade.toml`: line 2, column 10: unknown variant `on`, expected one of `off`, `warn`, `info`, `debug`"
        ],
    );
    check_error(
        "instance = \n",
        &expect![
            "configuration `stockade.toml`: line 1, column 12: string values must be quoted, expected literal string"
        ],
    );
}

#[test]
fn a_word_that_is_no_level_is_no_filter_either() {
    check_error(
        "[log]\nlevel = \"verbose\"\n",
        &expect![[r"
            configuration `stockade.toml`: line 2: `log.level`: `verbose` is neither a level nor a filter
            hint: levels are off, error, warn, info, debug, trace; a filter is written like `agent::daemon=debug,info`"]],
    );
    check_error(
        "[log]\nlevel = \"warning\"\n",
        &expect![[r"
            configuration `stockade.toml`: line 2: `log.level`: `warning` is neither a level nor a filter
            hint: did you mean `warn`?"]],
    );
}

#[test]
fn a_named_file_must_exist() {
    let missing = Path::new("/nonexistent/stockade.toml");
    let error = Config::load(Some(missing)).expect_err("must be refused");
    assert_eq!(
        error.to_string(),
        "configuration `/nonexistent/stockade.toml`: can not be read"
    );
}

#[test]
fn what_others_may_write_is_refused_once() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let path = folder.path().join("stockade.toml");
    fs::write(&path, "").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("its mode is set");
    let error = Config::load_trusted(Some(&path)).expect_err("must be refused");
    let place = path.display().to_string();
    expect![[r"
        configuration: it can not be trusted: `@`: mode 0666 lets others than its owner write it
        hint: chmod go-w @"]]
    .assert_eq(&crate::daemon::told(&error).replace(&place, "@"));
}
