//! TOML text to `Raw*`: which key stands in which table. Nothing is judged here but types.

use toml::de::DeTable;

use super::{
    error::{Code, Findings, Span},
    raw::{
        RawAllow, RawAllowPrivate, RawEgress, RawEgressLimits, RawFilesystem, RawLimits, RawLocal,
        RawLocalAllow, RawMatch, RawOutput, RawPin, RawPolicy, RawRisk, RawSyscalls, RawUnbounded,
        RawVerb, RawVerbLimits, RawWorker,
    },
    reader::TableReader,
};

/// What the parser says of a second table or key of one name; of a second rule, most of the time.
const DUPLICATE: &str = "duplicate key";
const ONCE: &str = "a table or key may stand once; several rules are `[[egress.allow]]`";

/// Reads a policy file. `None` when it is not TOML; then the places are among the findings.
pub(super) fn parse(text: &str, findings: &mut Findings) -> Option<RawPolicy> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let reader = TableReader::new("", document.into_inner(), findings);
        return Some(policy(reader));
    }
    for error in errors {
        let mut span: Span = error.span().unwrap_or_default().into();
        span.end = span.end.min(text.len());
        span.start = span.start.min(span.end);
        let message = format!("not TOML: {}", error.message());
        if error.message().contains(DUPLICATE) {
            findings.hinted(Code::Syntax, span, message, ONCE);
        } else {
            findings.add(Code::Syntax, span, message);
        }
    }
    None
}

fn policy(mut t: TableReader<'_, '_>) -> RawPolicy {
    let raw = RawPolicy {
        version: t.integer("version"),
        tool: t.string("tool"),
        description: t.string("description"),
        mode: t.choice("mode"),
        worker: t.table("worker", "worker", worker),
        egress: t.table("egress", "egress", egress),
        local: t.table("local", "local", local),
        filesystem: t.table("filesystem", "filesystem", filesystem),
        syscalls: t.table("syscalls", "syscalls", syscalls),
        limits: t.table("limits", "limits", limits),
        verb: t.tables("verb", "verb", verb),
        matched: t.table("match", "match", matched),
    };
    t.finish();
    raw
}

fn matched(mut t: TableReader<'_, '_>) -> RawMatch {
    let raw = RawMatch {
        units: t.strings("units"),
    };
    t.finish();
    raw
}

fn worker(mut t: TableReader<'_, '_>) -> RawWorker {
    let raw = RawWorker {
        command: t.strings("command"),
        protocol: t.choice("protocol"),
        environment: t.string_map("environment"),
        idle_timeout: t.string("idle_timeout"),
        wall_timeout: t.string("wall_timeout"),
        pin: t.tables("pin", "worker.pin", pin),
        lock: t.choice("lock"),
        reuse: t.choice("reuse"),
    };
    t.finish();
    raw
}

fn pin(mut t: TableReader<'_, '_>) -> RawPin {
    let raw = RawPin {
        path: t.string("path"),
        kind: t.choice("kind"),
        sha256: t.string("sha256"),
    };
    t.finish();
    raw
}

fn egress(mut t: TableReader<'_, '_>) -> RawEgress {
    let raw = RawEgress {
        allow: t.tables("allow", "egress.allow", allow),
        allow_private: t.tables("allow_private", "egress.allow_private", allow_private),
        limits: t.table("limits", "egress.limits", egress_limits),
    };
    t.finish();
    raw
}

fn allow(mut t: TableReader<'_, '_>) -> RawAllow {
    let raw = RawAllow {
        cidr: t.string("cidr"),
        domain: t.string("domain"),
        protocol: t.choice("protocol"),
        ports: t.ports("ports"),
        tls: t.choice("tls"),
        ech: t.choice("ech"),
        records: t.choices("records"),
        reason: t.string("reason"),
    };
    t.finish();
    raw
}

fn allow_private(mut t: TableReader<'_, '_>) -> RawAllowPrivate {
    let raw = RawAllowPrivate {
        cidr: t.string("cidr"),
        protocol: t.choice("protocol"),
        ports: t.ports("ports"),
        reason: t.string("reason"),
    };
    t.finish();
    raw
}

fn egress_limits(mut t: TableReader<'_, '_>) -> RawEgressLimits {
    let raw = RawEgressLimits {
        connections: t.integer("connections"),
        bytes_out: t.string("bytes_out"),
    };
    t.finish();
    raw
}

fn local(mut t: TableReader<'_, '_>) -> RawLocal {
    let raw = RawLocal {
        allow: t.tables("allow", "local.allow", local_allow),
    };
    t.finish();
    raw
}

fn local_allow(mut t: TableReader<'_, '_>) -> RawLocalAllow {
    let raw = RawLocalAllow {
        tcp: t.string("tcp"),
        unix: t.string("unix"),
        loopback: t.choice("loopback"),
        reason: t.string("reason"),
    };
    t.finish();
    raw
}

fn filesystem(mut t: TableReader<'_, '_>) -> RawFilesystem {
    let raw = RawFilesystem {
        read: t.strings("read"),
        execute: t.strings("execute"),
        write: t.strings("write"),
        workdir_size: t.string("workdir_size"),
        tmp_size: t.string("tmp_size"),
        inodes: t.integer("inodes"),
        output: t.table("output", "filesystem.output", output),
    };
    t.finish();
    raw
}

fn output(mut t: TableReader<'_, '_>) -> RawOutput {
    let raw = RawOutput {
        path: t.string("path"),
        size: t.string("size"),
        entries: t.integer("entries"),
        depth: t.integer("depth"),
        umask: t.string("umask"),
        owner: t.integer("owner"),
        group: t.integer("group"),
    };
    t.finish();
    raw
}

fn syscalls(mut t: TableReader<'_, '_>) -> RawSyscalls {
    let raw = RawSyscalls {
        profile: t.choice("profile"),
        allow: t.strings("allow"),
        deny: t.strings("deny"),
    };
    t.finish();
    raw
}

fn limits(mut t: TableReader<'_, '_>) -> RawLimits {
    let raw = RawLimits {
        memory: t.string("memory"),
        processes: t.integer("processes"),
        cpus: t.number("cpus"),
        open_files: t.integer("open_files"),
        cpu_time: t.string("cpu_time"),
        output: t.string("output"),
    };
    t.finish();
    raw
}

fn verb(mut t: TableReader<'_, '_>) -> RawVerb {
    let raw = RawVerb {
        name: t.string("name"),
        description: t.string("description"),
        worker_tool: t.string("worker_tool"),
        scope: t.string("scope"),
        arguments: t.string("arguments"),
        result: t.string("result"),
        unbounded: t.tables("unbounded", "verb.unbounded", unbounded),
        idempotency: t.choice("idempotency"),
        durable: t.boolean("durable"),
        proof_body: t.boolean("proof_body"),
        pin: t.string("pin"),
        limits: t.table("limits", "verb.limits", verb_limits),
        risk: t.table("risk", "verb.risk", risk),
    };
    t.finish();
    raw
}

fn unbounded(mut t: TableReader<'_, '_>) -> RawUnbounded {
    let raw = RawUnbounded {
        path: t.string("path"),
        schema: t.choice("schema"),
        reason: t.string("reason"),
    };
    t.finish();
    raw
}

fn verb_limits(mut t: TableReader<'_, '_>) -> RawVerbLimits {
    let raw = RawVerbLimits {
        rate: t.texts("rate"),
        concurrency: t.integer("concurrency"),
        per_day: t.texts("per_day"),
        repeats: t.integer("repeats"),
    };
    t.finish();
    raw
}

fn risk(mut t: TableReader<'_, '_>) -> RawRisk {
    let raw = RawRisk {
        approve_if: t.strings("approve_if"),
    };
    t.finish();
    raw
}
