//! What a push would change: rules that come and go, and everything else by name.

use std::collections::{BTreeMap, BTreeSet};

use common::id::RuleId;

use super::{
    compiled::{
        CompiledPolicy, EgressLimits, Filesystem, Limits, Output, Rule, Syscalls, ToolName, Worker,
    },
    digest::{mode_text, profile_text, worker_protocol_text},
    quantity::{seconds_text, size_text},
    store::PolicySet,
    unit::UnitGlob,
};

/// When a change takes hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// With the push, for running sessions too.
    AtOnce,
    /// For sessions that begin after the push.
    NewSessions,
}

/// One setting that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its place in the file: `limits.memory`.
    pub what: &'static str,
    /// Before.
    pub old: String,
    /// After.
    pub new: String,
    /// When it takes hold.
    pub when: When,
}

/// What differs between two policies of one tool.
#[derive(Clone, Debug)]
pub struct PolicyDiff<'a> {
    /// The tool, by its new name.
    pub tool: &'a ToolName,
    /// Rules that only the new policy has.
    pub added: Vec<&'a Rule>,
    /// Rules that only the old policy has: flows that they alone allow end with the push.
    pub removed: Vec<&'a Rule>,
    /// All other differences.
    pub changed: Vec<Change>,
}

impl PolicyDiff<'_> {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What differs between two sets.
#[derive(Clone, Debug, Default)]
pub struct SetDiff<'a> {
    /// Tools that only the new set has.
    pub added: Vec<&'a CompiledPolicy>,
    /// Tools that only the old set has: their sessions end with the push.
    pub removed: Vec<&'a CompiledPolicy>,
    /// Tools of both that differ.
    pub changed: Vec<PolicyDiff<'a>>,
}

impl SetDiff<'_> {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two sets.
#[must_use]
pub fn sets<'a>(old: &'a PolicySet, new: &'a PolicySet) -> SetDiff<'a> {
    let mut diff = SetDiff::default();
    for policy in old.iter() {
        match new.get(&policy.tool) {
            Some(other) => {
                let changes = policies(policy, other);
                if !changes.is_empty() {
                    diff.changed.push(changes);
                }
            }
            None => diff.removed.push(policy),
        }
    }
    diff.added = new
        .iter()
        .filter(|policy| old.get(&policy.tool).is_none())
        .map(AsRef::as_ref)
        .collect();
    diff
}

/// Compares two policies.
#[must_use]
pub fn policies<'a>(old: &'a CompiledPolicy, new: &'a CompiledPolicy) -> PolicyDiff<'a> {
    let only = |these: &'a CompiledPolicy, those: &CompiledPolicy| -> Vec<&'a Rule> {
        let ids: BTreeSet<RuleId> = those.egress.rules.iter().map(|rule| rule.id).collect();
        let mut rules: Vec<&Rule> = these
            .egress
            .rules
            .iter()
            .filter(|rule| !ids.contains(&rule.id))
            .collect();
        rules.sort_by(|a, b| a.text.cmp(&b.text));
        rules
    };
    let before = settings(old);
    let mut changed: Vec<Change> = settings(new)
        .into_iter()
        .zip(before)
        .filter(|(new, old)| new.text != old.text)
        .map(|(new, old)| Change {
            what: new.what,
            old: old.text,
            new: new.text,
            when: new.when,
        })
        .collect();
    changed.extend(reasons(old, new));
    PolicyDiff {
        tool: &new.tool,
        added: only(new, old),
        removed: only(old, new),
        changed,
    }
}

/// Rules of both whose `reason` differs.
fn reasons(old: &CompiledPolicy, new: &CompiledPolicy) -> Vec<Change> {
    let before: BTreeMap<RuleId, &str> = old
        .egress
        .rules
        .iter()
        .map(|rule| (rule.id, rule.reason.as_str()))
        .collect();
    new.egress
        .rules
        .iter()
        .filter_map(|rule| {
            let reason = before
                .get(&rule.id)
                .filter(|reason| **reason != rule.reason)?;
            Some(Change {
                what: "reason",
                old: format!("{} ({reason})", rule.text),
                new: format!("{} ({})", rule.text, rule.reason),
                when: When::AtOnce,
            })
        })
        .collect()
}

struct Setting {
    what: &'static str,
    text: String,
    when: When,
}

/// Everything but the rules, in the same order for every policy.
fn settings(policy: &CompiledPolicy) -> Vec<Setting> {
    let CompiledPolicy {
        tool,
        description,
        mode,
        digest: _,
        worker,
        egress,
        filesystem,
        syscalls,
        limits,
        verbs,
        units,
    } = policy;
    let verbs: Vec<String> = verbs.iter().map(ToString::to_string).collect();
    let units: Vec<&str> = units.iter().map(UnitGlob::as_str).collect();
    let EgressLimits {
        connections,
        bytes_out,
    } = &egress.limits;
    let at_once = [
        ("tool", tool.to_string()),
        ("description", description.clone()),
        ("mode", mode_text(*mode).to_owned()),
        (
            "egress.limits.connections",
            limit(*connections, |n| n.to_string()),
        ),
        ("egress.limits.bytes_out", limit(*bytes_out, size_text)),
        ("verb", verbs.join("; ")),
        ("match.units", units.join(", ")),
    ];
    let later = worker_settings(worker)
        .into_iter()
        .chain(fence_settings(filesystem, syscalls, *limits));
    let setting = |when| move |(what, text)| Setting { what, text, when };
    at_once
        .into_iter()
        .map(setting(When::AtOnce))
        .chain(later.map(setting(When::NewSessions)))
        .collect()
}

fn worker_settings(worker: &Worker) -> Vec<(&'static str, String)> {
    let Worker {
        command,
        protocol,
        environment,
        idle_timeout,
        wall_timeout,
        pins,
        lock,
        reuse,
    } = worker;
    let variables: Vec<String> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let pins: Vec<String> = pins
        .iter()
        .map(|pin| {
            format!(
                "{} {}",
                pin.path.display(),
                super::compiled::Digest(pin.sha256)
            )
        })
        .collect();
    vec![
        ("worker.command", format!("{command:?}")),
        (
            "worker.protocol",
            worker_protocol_text(*protocol).to_owned(),
        ),
        ("worker.environment", variables.join(" ")),
        ("worker.idle_timeout", seconds_text(idle_timeout.as_secs())),
        ("worker.wall_timeout", seconds_text(wall_timeout.as_secs())),
        ("worker.pin", pins.join(", ")),
        ("worker.lock", lock.word().to_owned()),
        ("worker.reuse", reuse.word().to_owned()),
    ]
}

fn fence_settings(
    filesystem: &Filesystem,
    syscalls: &Syscalls,
    limits: Limits,
) -> Vec<(&'static str, String)> {
    let Filesystem {
        read,
        execute,
        write,
        workdir_size,
        workdir_inodes,
        tmp_size,
        tmp_inodes,
        output,
    } = filesystem;
    let Syscalls {
        profile,
        allow,
        deny,
    } = syscalls;
    let Limits {
        memory,
        processes,
        cpus_milli,
        open_files,
        cpu_time,
        output: written,
    } = limits;
    let paths = |paths: &[std::path::PathBuf]| {
        let texts: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        texts.join(" ")
    };
    vec![
        ("filesystem.read", paths(read)),
        ("filesystem.execute", paths(execute)),
        ("filesystem.write", paths(write)),
        ("filesystem.workdir_size", size_text(*workdir_size)),
        ("filesystem.tmp_size", size_text(*tmp_size)),
        (
            "filesystem.inodes",
            format!("{workdir_inodes} {tmp_inodes}"),
        ),
        (
            "filesystem.output",
            output.as_ref().map(output_text).unwrap_or_default(),
        ),
        ("syscalls.profile", profile_text(*profile).to_owned()),
        ("syscalls.allow", allow.join(" ")),
        ("syscalls.deny", deny.join(" ")),
        ("limits.memory", size_text(memory)),
        ("limits.processes", processes.to_string()),
        ("limits.cpus", cpus_text(cpus_milli)),
        ("limits.open_files", open_files.to_string()),
        ("limits.cpu_time", limit(cpu_time.as_secs(), seconds_text)),
        ("limits.output", size_text(written)),
    ]
}

fn output_text(output: &Output) -> String {
    let Output {
        path,
        size,
        entries,
        depth,
        umask,
        owner,
        group,
    } = output;
    format!(
        "{} {}, {entries} entries, {depth} deep, umask {umask:03o}, {owner}:{group}",
        path.display(),
        size_text(*size)
    )
}

/// Every setting but the rules, by its place in the file, for people.
#[must_use]
pub fn described(policy: &CompiledPolicy) -> Vec<(&'static str, String)> {
    settings(policy)
        .into_iter()
        .map(|setting| (setting.what, setting.text))
        .collect()
}

/// `1.5`
#[must_use]
pub fn cpus_text(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    let short = text.trim_end_matches('0');
    short.strip_suffix('.').unwrap_or(short).to_owned()
}

fn limit(number: u64, text: impl Fn(u64) -> String) -> String {
    if number == u64::MAX {
        "none".to_owned()
    } else {
        text(number)
    }
}
