//! One line of TOML for each key, for hints. A homogeneous table: no logic but the look-up.

/// How a key of a table is written.
pub(super) fn example(path: &str, key: &str) -> Option<&'static str> {
    EXAMPLES
        .iter()
        .find(|(table, name, _)| *table == path && *name == key)
        .or_else(|| EXAMPLES.iter().find(|(_, name, _)| *name == key))
        .map(|(_, _, line)| *line)
}

const EXAMPLES: &[(&str, &str, &str)] = &[
    ("", "version", "version = 1"),
    ("", "tool", "tool = \"invoice\""),
    ("", "description", "description = \"Reads invoices\""),
    ("", "mode", "mode = \"enforce\""),
    ("", "worker", "[worker]"),
    ("", "egress", "[egress]"),
    ("", "local", "[[local.allow]]"),
    ("", "filesystem", "[filesystem]"),
    ("", "syscalls", "[syscalls]"),
    ("", "limits", "[limits]"),
    ("", "verb", "[[verb]]"),
    (
        "worker",
        "command",
        "command = [\"/usr/bin/curl\", \"-sS\"]",
    ),
    ("worker", "protocol", "protocol = \"exec\""),
    (
        "worker",
        "environment",
        "environment = { LANG = \"C.UTF-8\" }",
    ),
    ("worker", "idle_timeout", "idle_timeout = \"60s\""),
    ("worker", "wall_timeout", "wall_timeout = \"10m\""),
    ("worker", "pin", "[[worker.pin]]"),
    ("worker.pin", "path", "path = \"/opt/tool/bin/worker\""),
    (
        "worker.pin",
        "sha256",
        "sha256 = \"<64 hexadecimal digits>\"",
    ),
    ("egress", "allow", "[[egress.allow]]"),
    ("egress", "allow_private", "[[egress.allow_private]]"),
    ("egress", "limits", "[egress.limits]"),
    ("egress.allow", "cidr", "cidr = \"185.199.108.0/22\""),
    ("egress.allow_private", "cidr", "cidr = \"10.20.0.5/32\""),
    ("egress.allow", "domain", "domain = \"api.billing.example\""),
    ("egress.allow", "protocol", "protocol = \"tcp\""),
    ("egress.allow_private", "protocol", "protocol = \"tcp\""),
    ("egress.allow", "ports", "ports = [443, \"9000-9010\"]"),
    ("egress.allow", "tls", "tls = \"require\""),
    ("egress.allow", "ech", "ech = \"refuse\""),
    ("egress.allow", "records", "records = [\"A\", \"AAAA\"]"),
    ("egress.allow", "reason", "reason = \"reporting database\""),
    ("egress.limits", "connections", "connections = 64"),
    ("egress.limits", "bytes_out", "bytes_out = \"50MiB\""),
    ("local", "allow", "[[local.allow]]"),
    ("local.allow", "tcp", "tcp = \"127.0.0.1:5432\""),
    (
        "local.allow",
        "unix",
        "unix = \"/run/postgresql/.s.PGSQL.5432\"",
    ),
    ("local.allow", "loopback", "loopback = \"own\""),
    (
        "filesystem",
        "read",
        "read = [\"/usr\", \"/etc/ssl/certs\"]",
    ),
    ("filesystem", "execute", "execute = [\"/usr/bin\"]"),
    ("filesystem", "write", "write = [\"/srv/exchange\"]"),
    ("filesystem", "workdir_size", "workdir_size = \"64MiB\""),
    ("syscalls", "profile", "profile = \"default\""),
    ("syscalls", "allow", "allow = [\"flock\"]"),
    ("syscalls", "deny", "deny = [\"execve\"]"),
    ("limits", "memory", "memory = \"512MiB\""),
    ("limits", "processes", "processes = 64"),
    ("limits", "cpus", "cpus = 1.0"),
    ("limits", "open_files", "open_files = 256"),
    ("limits", "cpu_time", "cpu_time = \"5m\""),
    ("limits", "output", "output = \"64MiB\""),
    ("verb", "name", "name = \"create\""),
    ("verb", "scope", "scope = \"invoice:create\""),
    ("verb", "arguments", "arguments = \"schemas/create.json\""),
    ("verb", "result", "result = \"schemas/created.json\""),
    ("verb", "limits", "[verb.limits]"),
    ("verb", "risk", "[verb.risk]"),
    ("verb.limits", "rate", "rate = \"10/min per user\""),
    (
        "verb.risk",
        "approve_if",
        "approve_if = [\"arguments.amount > 1000\"]",
    ),
];
