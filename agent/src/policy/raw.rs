//! The policy file as it is written: every key, its type and its description.
//!
//! No logic: `parse` fills these from TOML, `compile` judges them, and the JSON Schema that editors
//! use is derived from them, descriptions included. A required key is a [`Field`] without
//! `schemars(default)`.

mod files;
mod verb;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

pub(super) use self::{
    files::{RawFilesystem, RawOutput},
    verb::{RawRisk, RawUnbounded, RawVerb, RawVerbLimits},
};
pub(super) use super::choice::{
    Choice, RawEch, RawIdempotency, RawLockRule, RawLoopback, RawMode, RawPinKind, RawProfile,
    RawProtocol, RawRecord, RawReuse, RawTls, RawWhich, RawWorkerProtocol,
};
use super::error::Span;

/// A value and its place in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// The value of a key.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    /// The file does not have the key.
    #[default]
    Absent,
    /// It has one of another type; that was reported.
    Unreadable,
    /// It has one.
    Given(Located<T>),
}

impl<T> Field<T> {
    /// The value, if the file has a readable one.
    pub(super) fn given(self) -> Option<Located<T>> {
        match self {
            Self::Given(located) => Some(located),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// A list whose items know their place.
pub(super) type List<T> = Vec<Located<T>>;

/// One tool: what runs, what it may reach, touch and use.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Policy")]
pub(super) struct RawPolicy {
    /// Version of this format: 1.
    #[schemars(extend("const" = 1))]
    pub(super) version: Field<i64>,
    /// The tool's name.
    #[schemars(extend("pattern" = "^[a-z][a-z0-9_-]{0,62}$"))]
    pub(super) tool: Field<String>,
    /// One sentence for people.
    #[schemars(default)]
    pub(super) description: Field<String>,
    /// Refuse or report what no rule allows. Default: `enforce`.
    #[schemars(default)]
    pub(super) mode: Field<RawMode>,
    /// What runs.
    #[schemars(default)]
    pub(super) worker: Field<RawWorker>,
    /// What it may reach. Without it: nothing.
    #[schemars(default)]
    pub(super) egress: Field<RawEgress>,
    /// What it may reach on this host. Without it: nothing.
    #[schemars(default)]
    pub(super) local: Field<RawLocal>,
    /// What it may read, write and execute.
    #[schemars(default)]
    pub(super) filesystem: Field<RawFilesystem>,
    /// Which system calls it may make.
    #[schemars(default)]
    pub(super) syscalls: Field<RawSyscalls>,
    /// How much it may use.
    #[schemars(default)]
    pub(super) limits: Field<RawLimits>,
    /// The tool's operations.
    #[schemars(default)]
    pub(super) verb: Field<List<RawVerb>>,
    /// Units that somebody else starts, fenced by this policy.
    #[schemars(default, rename = "match")]
    pub(super) matched: Field<RawMatch>,
}

/// `[match]`: units that somebody else starts and that this policy fences: what they reach, and names.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Match")]
pub(super) struct RawMatch {
    /// Names of services and scopes, with `*` and `?`, such as `weather-*.service`.
    pub(super) units: Field<List<String>>,
}

/// `[worker]`: what runs.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Worker")]
pub(super) struct RawWorker {
    /// Absolute path of the program, then its arguments.
    #[schemars(default)]
    pub(super) command: Field<List<String>>,
    /// How the agent talks to it. Default: `exec`.
    #[schemars(default)]
    pub(super) protocol: Field<RawWorkerProtocol>,
    /// The whole environment: nothing else is inherited.
    #[schemars(default, with = "std::collections::BTreeMap<String, String>")]
    pub(super) environment: Field<Vec<(Located<String>, Located<String>)>>,
    /// How long a worker may use no processor time at all, such as `60s`. Default: `60s`; for
    /// `exec` the `wall_timeout`.
    #[schemars(default, extend("pattern" = "^[0-9]+(s|m|h|d)$"))]
    pub(super) idle_timeout: Field<String>,
    /// How long a session may last, such as `10m`. Default: `10m`.
    #[schemars(default, extend("pattern" = "^[0-9]+(s|m|h|d)$"))]
    pub(super) wall_timeout: Field<String>,
    /// Files and folders whose content is pinned, beside those of the lock file; a program is
    /// checked through the descriptor that is executed.
    #[schemars(default)]
    pub(super) pin: Field<List<RawPin>>,
    /// Whether there must be a lock file, which `stockade policy pin` writes. Default: `optional`.
    #[schemars(default)]
    pub(super) lock: Field<RawLockRule>,
    /// For `mcp`: whose calls a worker that is kept warm may take. Default: `session`.
    #[schemars(default)]
    pub(super) reuse: Field<RawReuse>,
}

/// `[[worker.pin]]`: a file or folder with the content it must have.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Pin")]
pub(super) struct RawPin {
    /// Absolute path.
    pub(super) path: Field<String>,
    /// What lies there. Default: `file`.
    #[schemars(default)]
    pub(super) kind: Field<RawPinKind>,
    /// SHA-256 of a file's content, or the sum that `stockade policy pin` gives a folder, in
    /// hexadecimal.
    #[schemars(extend("pattern" = "^[0-9a-fA-F]{64}$"))]
    pub(super) sha256: Field<String>,
}

/// `[egress]`: what the worker may reach.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Egress")]
pub(super) struct RawEgress {
    /// Public addresses and names.
    #[schemars(default)]
    pub(super) allow: Field<List<RawAllow>>,
    /// The only door into private and other special-purpose ranges.
    #[schemars(default)]
    pub(super) allow_private: Field<List<RawAllowPrivate>>,
    /// How much a session may send.
    #[schemars(default)]
    pub(super) limits: Field<RawEgressLimits>,
}

/// A port, or an inclusive range such as `"9000-9010"`.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged, rename = "Port")]
pub(super) enum RawPort {
    /// One port.
    Number(#[schemars(range(min = 1, max = 65535))] i64),
    /// First and last port.
    Range(#[schemars(extend("pattern" = "^[0-9]{1,5}(-[0-9]{1,5})?$"))] String),
}

/// `[[egress.allow]]`: a public block of addresses, or a name. One of `cidr` and `domain`.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename = "Allow",
    extend("anyOf" = [{ "required": ["ports"] }, { "required": ["records"] }])
)]
pub(super) struct RawAllow {
    /// A block of public addresses, such as `185.199.108.0/22`.
    #[schemars(default)]
    pub(super) cidr: Field<String>,
    /// A name, or `*.` and a name: any depth, not the name itself.
    #[schemars(default)]
    pub(super) domain: Field<String>,
    /// The transport. Default: `tcp`.
    #[schemars(default)]
    pub(super) protocol: Field<RawProtocol>,
    /// The ports it opens. Required, but where `records` lists neither `A` nor `AAAA`.
    #[schemars(default, length(min = 1))]
    pub(super) ports: Field<List<RawPort>>,
    /// For a domain: whether the first data of a TCP connection must be a TLS handshake for an
    /// allowed name. Default: `require`.
    #[schemars(default)]
    pub(super) tls: Field<RawTls>,
    /// For a domain: what becomes of a handshake that may hide its name (encrypted client hello).
    /// Default: `refuse`.
    #[schemars(default)]
    pub(super) ech: Field<RawEch>,
    /// For a domain: the DNS records that are answered. Default: `A` and `AAAA`.
    #[schemars(default, length(min = 1))]
    pub(super) records: Field<List<RawRecord>>,
    /// Why it is open.
    #[schemars(default)]
    pub(super) reason: Field<String>,
}

/// `[[egress.allow_private]]`: a door into one special-purpose block.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "AllowPrivate")]
pub(super) struct RawAllowPrivate {
    /// A block inside one special-purpose block; a metadata address only on its own.
    pub(super) cidr: Field<String>,
    /// The transport.
    pub(super) protocol: Field<RawProtocol>,
    /// The ports it opens.
    #[schemars(length(min = 1))]
    pub(super) ports: Field<List<RawPort>>,
    /// Why it is open.
    pub(super) reason: Field<String>,
}

/// `[egress.limits]`: counted in the kernel.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "EgressLimits")]
pub(super) struct RawEgressLimits {
    /// Connections that a session may make. Default: no limit.
    #[schemars(default, range(min = 1))]
    pub(super) connections: Field<i64>,
    /// Bytes that a session may send, such as `50MiB`. Default: no limit.
    #[schemars(default, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
    pub(super) bytes_out: Field<String>,
}

/// `[local]`: what the worker may reach on this host.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Local")]
pub(super) struct RawLocal {
    /// The doors.
    #[schemars(default)]
    pub(super) allow: Field<List<RawLocalAllow>>,
}

/// `[[local.allow]]`: a door to this host. One of `tcp`, `unix` and `loopback`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "LocalAllow")]
pub(super) struct RawLocalAllow {
    /// An address of this host and a port, such as `127.0.0.1:5432` or `[::1]:5432`.
    #[schemars(default)]
    pub(super) tcp: Field<String>,
    /// The path of a stream socket of a service on this host, such as
    /// `/run/postgresql/.s.PGSQL.5432`.
    #[schemars(default)]
    pub(super) unix: Field<String>,
    /// `"own"`: 127.0.0.0/8 and `::1` among the session's own processes, which may then listen on
    /// ports from 1024 on. The host and other sessions stay out of reach.
    #[schemars(default)]
    pub(super) loopback: Field<RawLoopback>,
    /// Why it is open.
    #[schemars(default)]
    pub(super) reason: Field<String>,
}

/// `[syscalls]`: which system calls the worker may make.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Syscalls")]
pub(super) struct RawSyscalls {
    /// The list to begin with. Default: `default`.
    #[schemars(default)]
    pub(super) profile: Field<RawProfile>,
    /// Names added to it.
    #[schemars(default)]
    pub(super) allow: Field<List<String>>,
    /// Names taken from it.
    #[schemars(default)]
    pub(super) deny: Field<List<String>>,
}

/// `[limits]`: how much a session may use.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Limits")]
pub(super) struct RawLimits {
    /// Memory, such as `512MiB`. Default: `512MiB`.
    #[schemars(default, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
    pub(super) memory: Field<String>,
    /// Processes and threads. Default: 64.
    #[schemars(default, range(min = 1))]
    pub(super) processes: Field<i64>,
    /// Processors, such as 0.5. Default: 1.0.
    #[schemars(default)]
    pub(super) cpus: Field<f64>,
    /// Descriptors of a process. Default: 256.
    #[schemars(default, range(min = 1))]
    pub(super) open_files: Field<i64>,
    /// Processor time of a session, all its processes together, such as `5m`. Default: no limit.
    #[schemars(default, extend("pattern" = "^[0-9]+(s|m|h|d)$"))]
    pub(super) cpu_time: Field<String>,
    /// What a session may write to standard output and error, such as `64MiB`. Default: `64MiB`.
    #[schemars(default, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
    pub(super) output: Field<String>,
}
