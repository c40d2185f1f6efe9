//! Who may use the agent's two sockets on this host.

use nix::unistd::Group;

use super::host::{Check, State};
use crate::config::Config;

/// A row for each group, and one more where both are the same.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let (control, calls) = (&config.control_group, &config.broker.calls);
    let mut checks = vec![group(
        "control group",
        control,
        "root alone may push policies and issue tokens",
        "`control_group`",
    )];
    if !calls.enabled {
        return checks;
    }
    checks.push(group(
        "callers' group",
        &calls.group,
        "root alone may call, unless the service manager makes the broker's socket",
        "`broker.calls.group`",
    ));
    if *control == calls.group {
        let detail = format!(
            "group `{control}` has both sockets: who may call may also push policies and issue tokens"
        );
        let fix = "two groups: `control_group` and `broker.calls.group` in stockade.toml";
        checks.push(Check::gap("two groups", State::Weaker, detail, fix));
    }
    checks
}

fn group(row: &'static str, name: &str, without: &str, key: &str) -> Check {
    if let Some(found) = Group::from_name(name).ok().flatten() {
        return Check::ok(row, format!("{} ({})", found.name, found.gid));
    }
    let detail = format!("no group `{name}`: {without}");
    let fix = format!("groupadd --system {name}, or another {key} in stockade.toml");
    Check::gap(row, State::Weaker, detail, &fix)
}
