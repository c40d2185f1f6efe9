//! `stockade policy show`: the compiled form, as the kernel and the sandbox are told.

use clap::Args;
use common::rule::{DOOR, ECH, OWN, PortRange, RuleSet, TLS};
use serde_json::{Value, json};

use super::{
    look::{LookError, Source},
    print::{Answer, Colour, paint},
};
use crate::{
    exit::Code,
    policy::{
        compiled::{CompiledPolicy, Ech, RuleKind, TableEntry, Tls},
        diff::{self, cpus_text},
        digest::{mode_text, profile_text, protocol_text, worker_protocol_text},
        names::NameEntry,
    },
};

/// Which policy.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 printed, 65 the policy is wrong.\n\nExample:\n  \
                        stockade policy show ./weather.toml --json"
)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let policy = match arguments.source.policy() {
        Ok(policy) => policy,
        Err(LookError::Refused(error)) => {
            return Answer::refused(Code::Policy, &error, arguments.json);
        }
        Err(error) => return Ok(Answer::usage(&error)),
    };
    if arguments.json {
        return Answer::json(Code::Ok, &object(&policy));
    }
    Ok(Answer::text(Code::Ok, words(&policy)))
}

fn words(policy: &CompiledPolicy) -> String {
    let mut out = vec![format!(
        "{}{}",
        paint(Colour::Dim, &format!("{:<28}", "digest")),
        policy.digest
    )];
    for (name, text) in diff::described(policy) {
        let text = if text.is_empty() {
            "-".to_owned()
        } else {
            text
        };
        out.push(format!(
            "{}{text}",
            paint(Colour::Dim, &format!("{name:<28}"))
        ));
    }
    out.push(String::new());
    out.push(paint(Colour::Dim, "rules"));
    for rule in &policy.egress.rules {
        let why = if rule.reason.is_empty() {
            String::new()
        } else {
            format!("  # {}", rule.reason)
        };
        let (id, text, line) = (rule.id.0, &rule.text, rule.line);
        out.push(format!("  {id:016x}  line {line:<5} {text}{why}"));
    }
    if policy.egress.rules.is_empty() {
        out.push("  none: it reaches nothing".to_owned());
    }
    out.push(String::new());
    out.push(paint(Colour::Dim, "table (covering blocks united)"));
    for entry in &policy.egress.table {
        let ranges: Vec<String> = open(&entry.set).iter().map(range_words).collect();
        out.push(format!(
            "  {:<28} {}",
            entry.prefix.to_string(),
            ranges.join(", ")
        ));
    }
    if !policy.egress.names.is_empty() {
        out.push(String::new());
        let title = "names of TLS handshakes (covering wildcards united)";
        out.push(paint(Colour::Dim, title));
        for entry in policy.egress.names.entries() {
            let ranges: Vec<String> = open(&entry.set).iter().map(range_words).collect();
            let (name, ranges) = (entry.pattern.as_str(), ranges.join(", "));
            out.push(format!("  {name:<28} {ranges}"));
        }
    }
    out.push(String::new());
    out.join("\n")
}

/// The ranges in use.
fn open(set: &RuleSet) -> Vec<PortRange> {
    let count = usize::try_from(set.count).unwrap_or(usize::MAX);
    set.ranges.iter().take(count).copied().collect()
}

fn range_words(range: &PortRange) -> String {
    let words: String = [(DOOR, " door"), (TLS, " tls"), (ECH, " ech"), (OWN, " own")]
        .into_iter()
        .filter(|(flag, _)| range.flags & flag != 0)
        .map(|(_, word)| word)
        .collect();
    let protocol = protocol_text(range.protocol.into());
    if range.low == range.high {
        format!("{protocol} {}{words}", range.low)
    } else {
        format!("{protocol} {}-{}{words}", range.low, range.high)
    }
}

const fn kind_text(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Allow => "allow",
        RuleKind::AllowPrivate => "allow_private",
        RuleKind::Local => "local",
    }
}

fn object(policy: &CompiledPolicy) -> Value {
    let limit = |number: u64| (number != u64::MAX).then_some(number);
    json!({
        "tool": policy.tool.as_str(),
        "description": policy.description,
        "mode": mode_text(policy.mode),
        "digest": policy.digest.to_string(),
        "worker": {
            "command": policy.worker.command,
            "protocol": worker_protocol_text(policy.worker.protocol),
            "environment": policy.worker.environment,
            "idle_timeout_seconds": policy.worker.idle_timeout.as_secs(),
            "wall_timeout_seconds": policy.worker.wall_timeout.as_secs(),
            "pins": policy.worker.pins.iter().map(|pin| json!({
                "path": pin.path,
                "kind": pin.kind.word(),
                "sha256": crate::policy::compiled::Digest(pin.sha256).to_string(),
            })).collect::<Vec<Value>>(),
            "lock": policy.worker.lock.word(),
        },
        "egress": egress(policy),
        "limits": {
            "connections": limit(policy.egress.limits.connections),
            "bytes_out": limit(policy.egress.limits.bytes_out),
            "memory_bytes": policy.limits.memory,
            "processes": policy.limits.processes,
            "cpus": cpus_text(policy.limits.cpus_milli),
            "open_files": policy.limits.open_files,
            "cpu_time_seconds": limit(policy.limits.cpu_time.as_secs()),
            "output_bytes": policy.limits.output,
        },
        "filesystem": {
            "read": policy.filesystem.read,
            "execute": policy.filesystem.execute,
            "write": policy.filesystem.write,
            "workdir_bytes": policy.filesystem.workdir_size,
            "workdir_inodes": policy.filesystem.workdir_inodes,
            "tmp_bytes": policy.filesystem.tmp_size,
            "tmp_inodes": policy.filesystem.tmp_inodes,
            "output": policy.filesystem.output.as_ref().map(|output| json!({
                "path": output.path,
                "bytes": output.size,
                "entries": output.entries,
                "depth": output.depth,
                "umask": format!("{:03o}", output.umask),
                "owner": output.owner,
                "group": output.group,
            })),
        },
        "syscalls": {
            "profile": profile_text(policy.syscalls.profile),
            "allow": policy.syscalls.allow,
            "deny": policy.syscalls.deny,
        },
    })
}

fn egress(policy: &CompiledPolicy) -> Value {
    let rule = |rule: &crate::policy::compiled::Rule| {
        json!({
            "id": format!("{:016x}", rule.id.0),
            "kind": kind_text(rule.kind),
            "text": rule.text,
            "ports": rule.ports,
            "domain": rule.domain().map(|domain| json!({
                "pattern": domain.pattern.as_str(),
                "tls": match domain.tls {
                    Tls::Require => "require",
                    Tls::Off => "off",
                },
                "ech": match domain.ech {
                    Ech::Refuse => "refuse",
                    Ech::Allow => "allow",
                },
                "records": domain.records.iter().map(|record| record.word()).collect::<Vec<&str>>(),
            })),
            "reason": rule.reason,
            "line": rule.line,
        })
    };
    let range = |range: &PortRange| {
        json!({
            "protocol": protocol_text(range.protocol.into()),
            "low": range.low,
            "high": range.high,
            "door": range.flags & DOOR != 0,
            "tls": range.flags & TLS != 0,
            "ech": range.flags & ECH != 0,
            "own": range.flags & OWN != 0,
            "rule": format!("{:016x}", range.rule.0),
        })
    };
    let entry = |entry: &TableEntry| {
        json!({
            "prefix": entry.prefix.to_string(),
            "ranges": open(&entry.set).iter().map(range).collect::<Vec<Value>>(),
        })
    };
    let name = |entry: &NameEntry| {
        json!({
            "pattern": entry.pattern.as_str(),
            "ranges": open(&entry.set).iter().map(range).collect::<Vec<Value>>(),
        })
    };
    json!({
        "names": policy.egress.names.entries().iter().map(name).collect::<Vec<Value>>(),
        "rules": policy.egress.rules.iter().map(rule).collect::<Vec<Value>>(),
        "table": policy.egress.table.iter().map(entry).collect::<Vec<Value>>(),
    })
}
