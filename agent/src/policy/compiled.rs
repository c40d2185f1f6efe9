//! A policy in the form that everything else reads: checked once, no option means "not decided".
//!
//! Only `compile` makes one. Of the file's spelling it knows the place of each rule, for messages.

mod files;
mod record;
mod verb;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    decide::Mode,
    flow::{Address, TCP},
    id::RuleId,
    rule::{ECH, PortRange, RuleSet, TLS},
};

pub use self::files::{Filesystem, LockRule, Output, Pin, PinKind};
pub use self::record::Record;
pub use self::verb::{
    Daily, Idempotency, Rate, Reuse, Subject, Unbounded, Verb, VerbLimits, Which,
};
pub use super::names::NameEntry;
use super::{domain::DomainPattern, names::NameTable, unit::UnitGlob};

/// Name of a tool: 1 to 63 of `a-z`, `0-9`, `-`, `_`, beginning with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ToolName(pub(in crate::policy) String);

impl ToolName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a policy's canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One policy file, compiled.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    /// The tool.
    pub tool: ToolName,
    /// For people.
    pub description: String,
    /// Refuse or report what no rule allows.
    pub mode: Mode,
    /// SHA-256 of the canonical form: equal policies have equal digests whatever their spelling.
    pub digest: Digest,
    /// What runs.
    pub worker: Worker,
    /// What it may reach.
    pub egress: Egress,
    /// What it may read, write and execute.
    pub filesystem: Filesystem,
    /// Which system calls it may make.
    pub syscalls: Syscalls,
    /// How much it may use.
    pub limits: Limits,
    /// Its operations, by name.
    pub verbs: Vec<Verb>,
    /// Units that somebody else starts and that it fences.
    pub units: Vec<UnitGlob>,
}

impl CompiledPolicy {
    /// The verb of this name.
    #[must_use]
    pub fn verb(&self, name: &str) -> Option<&Verb> {
        let at = self
            .verbs
            .binary_search_by(|verb| verb.name.as_str().cmp(name));
        at.ok().and_then(|at| self.verbs.get(at))
    }

    /// Whether its `[match]` names this unit.
    #[must_use]
    pub fn matches(&self, unit: &str) -> bool {
        self.units.iter().any(|glob| glob.matches(unit))
    }
}

/// `[worker]`
#[derive(Clone, Debug)]
pub struct Worker {
    /// Absolute path of the program, then its arguments; empty for `run --policy FILE -- cmd` only.
    pub command: Vec<String>,
    /// How the agent talks to it.
    pub protocol: WorkerProtocol,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// How long a worker may use no processor time at all.
    pub idle_timeout: Duration,
    /// How long a session may last.
    pub wall_timeout: Duration,
    /// Files and folders whose content is pinned, by path.
    pub pins: Vec<Pin>,
    /// Whether there must be a lock file.
    pub lock: LockRule,
    /// Whose calls a worker that is kept warm may take.
    pub reuse: Reuse,
}

/// `[worker] protocol`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerProtocol {
    /// Model Context Protocol over stdio.
    Mcp,
    /// One request in, one result out.
    Json,
    /// A plain program.
    Exec,
}

/// `[egress]` and `[local]`
#[derive(Clone, Debug)]
pub struct Egress {
    /// The rules in the order of the file.
    pub rules: Vec<Rule>,
    /// What is open at each address and prefix, covering prefixes united, door ranges first; ordered
    /// by prefix. For addresses this alone goes to the kernel and to the host's model.
    pub table: Vec<TableEntry>,
    /// Which domain rules cover a name.
    pub names: NameTable,
    /// What a session may use.
    pub limits: EgressLimits,
}

impl Egress {
    /// The unix sockets that rules name, with their rules.
    pub fn unix_doors(&self) -> impl Iterator<Item = (&Path, RuleId)> {
        self.rules.iter().filter_map(|rule| match &rule.target {
            Target::Unix(path) => Some((path.as_path(), rule.id)),
            Target::Prefix(_) | Target::Domain(_) | Target::Own => None,
        })
    }

    /// Whether no rule opens anything on a network.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        let unix = |rule: &Rule| matches!(rule.target, Target::Unix(_));
        self.rules.iter().all(unix)
    }
}

/// One entry of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableEntry {
    /// Where.
    pub prefix: Prefix,
    /// What is open there.
    pub set: RuleSet,
}

/// A block of addresses in canonical form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// The first address; bits beyond `length` are zero.
    pub network: Address,
    /// Leading bits of the canonical form that count, 0 to 128 (an IPv4 `/24` is 120).
    pub length: u8,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its id: equal for equal rules in every policy set.
    pub id: RuleId,
    /// Which table of the file it came from.
    pub kind: RuleKind,
    /// What it names.
    pub target: Target,
    /// IP protocol number: TCP or UDP; 0 for a unix socket, and for loopback, which has both.
    pub protocol: u16,
    /// Inclusive ranges, ordered, merged. Empty for a unix socket, for loopback and for a domain rule that
    /// gives no addresses.
    pub ports: Vec<(u16, u16)>,
    /// Why (required for doors into private ranges).
    pub reason: String,
    /// Line of the file, from 1.
    pub line: u32,
    /// The rule in one line, canonical: `cidr 192.0.2.0/24 tcp 443`.
    pub text: String,
}

/// Which table a rule came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleKind {
    /// `[[egress.allow]]`
    Allow,
    /// `[[egress.allow_private]]`
    AllowPrivate,
    /// `[[local.allow]]`
    Local,
}

/// What a rule names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Addresses.
    Prefix(Prefix),
    /// A domain name or wildcard.
    Domain(DomainRule),
    /// A unix socket of this host, by its path.
    Unix(PathBuf),
    /// Loopback among the session's own processes.
    Own,
}

/// A name or wildcard, and what is demanded of a connection to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomainRule {
    /// The name or wildcard.
    pub pattern: DomainPattern,
    /// Whether a TCP connection must begin with a TLS handshake for an allowed name.
    pub tls: Tls,
    /// What becomes of a handshake that hides its name.
    pub ech: Ech,
    /// The record types that the resolver answers: ordered, each once, not empty.
    pub records: Vec<Record>,
}

/// `tls` of a domain rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// The first data of a TCP connection is a TLS handshake for an allowed name.
    Require,
    /// Another protocol is spoken: any name on the address is reachable.
    Off,
}

/// `ech` of a domain rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ech {
    /// A handshake that may hide its name is refused.
    Refuse,
    /// It passes: the name that is seen is not always the name that is reached.
    Allow,
}

impl DomainRule {
    /// Whether the resolver answers this record type.
    #[must_use]
    pub fn answers(&self, record: Record) -> bool {
        self.records.contains(&record)
    }

    /// Whether an answer may hold an address.
    #[must_use]
    pub fn gives_addresses(&self) -> bool {
        self.records.iter().any(|record| record.is_address())
    }
}

impl Rule {
    /// Its domain part, if it is a domain rule.
    #[must_use]
    pub fn domain(&self) -> Option<&DomainRule> {
        match &self.target {
            Target::Domain(domain) => Some(domain),
            Target::Prefix(_) | Target::Unix(_) | Target::Own => None,
        }
    }

    /// What a domain rule opens at an address that DNS returned for one of its names; nothing for
    /// other rules.
    pub fn grant_ranges(&self) -> impl Iterator<Item = PortRange> {
        let flags = self.domain().map(|domain| {
            let tls = self.protocol == TCP && domain.tls == Tls::Require;
            let ech = domain.ech == Ech::Allow;
            (if tls { TLS } else { 0 }) | (if ech { ECH } else { 0 })
        });
        flags.into_iter().flat_map(move |flags| {
            self.ports
                .iter()
                .map(move |ports| self.range(*ports, flags))
        })
    }

    /// Whether it covers a protocol and a port.
    #[must_use]
    pub fn opens(&self, protocol: u16, port: u16) -> bool {
        let within = |(low, high): &(u16, u16)| (*low..=*high).contains(&port);
        self.protocol == protocol && self.ports.iter().any(within)
    }

    pub(super) fn range(&self, (low, high): (u16, u16), flags: u8) -> PortRange {
        PortRange {
            rule: self.id,
            low,
            high,
            protocol: u8::try_from(self.protocol).unwrap_or_default(),
            flags,
            pad: 0,
        }
    }
}

/// `[egress.limits]`; `u64::MAX` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EgressLimits {
    /// Connections of a session.
    pub connections: u64,
    /// Bytes of IP packets of a session.
    pub bytes_out: u64,
}

/// `[syscalls]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Syscalls {
    /// The list to begin with.
    pub profile: Profile,
    /// Names added to it.
    pub allow: Vec<String>,
    /// Names taken from it.
    pub deny: Vec<String>,
}

/// `[syscalls] profile`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// What ordinary network programs need.
    Default,
    /// And what language runtimes need.
    Interpreter,
    /// Files, memory and one network client.
    Strict,
}

impl Profile {
    /// Whether it has unix sockets by name among the session's own processes.
    #[must_use]
    pub const fn has_unix_names(self) -> bool {
        matches!(self, Self::Interpreter)
    }
}

/// `[limits]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Thousandths of a processor.
    pub cpus_milli: u32,
    /// Descriptors of a process.
    pub open_files: u32,
    /// Processor time of a session; `Duration::MAX` for no limit.
    pub cpu_time: Duration,
    /// Bytes on standard output and error.
    pub output: u64,
}
