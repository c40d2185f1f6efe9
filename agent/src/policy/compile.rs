//! `Raw*` to `Compiled*`: every value judged once, every mistake of the file reported at once.
//!
//! Each `Raw` struct is taken apart without `..`, so that a new key can not be forgotten.

mod domains;
mod fence;
mod files;
mod local;
mod rules;
mod targets;
mod units;
mod worker;

use std::path::PathBuf;

use common::decide::Mode;

use super::{
    compiled::{CompiledPolicy, Digest, Egress, EgressLimits, ToolName},
    digest,
    error::{Code, Findings, Lines, PolicyError, Span},
    example::example,
    names::{NameTable, NameTableError},
    parse,
    quantity::{self, Bounds},
    raw::{Field, Located, RawEgress, RawEgressLimits, RawLocal, RawMode, RawPolicy},
    reader::place,
    table,
    unit::UnitGlob,
    verb,
};

pub(super) use self::{
    domains::NOT_TLS_AT_FIRST,
    files::normalised,
    worker::{PINS_MAX, from_hex},
};

/// The version of the policy file that this agent reads.
pub const VERSION: i64 = 1;
/// Bytes of a tool's name.
pub const TOOL_NAME_BYTES_MAX: usize = 63;
/// Bytes of `description` and of a `reason`.
pub const PROSE_BYTES_MAX: usize = 1_024;

/// A compiled policy and the place of its name, for messages about a set of files.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) policy: CompiledPolicy,
    pub(super) tool_span: Span,
    pub(super) claims: Vec<Claim>,
    /// What its `[match]` names, each with its place.
    pub(super) units: Vec<(UnitGlob, Span)>,
}

/// A path of the host that the tool changes, or that its sessions leave files in: another tool may
/// have a say there or not.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) path: PathBuf,
    pub(super) span: Span,
    /// `filesystem.output`, not a path of `filesystem.write`.
    pub(super) output: bool,
}

/// Compiles the text of a policy file that names no schema files. `file` is its name in messages.
pub fn compile(file: &str, text: &str) -> Result<CompiledPolicy, PolicyError> {
    let mut none = |_: &str| Err("there is no file to read it beside".to_owned());
    compile_with(file, text, &mut none)
}

/// Compiles the text of a policy file; `documents` gives the bytes of each schema file that it names,
/// as it names it, or says why not.
pub fn compile_with(
    file: &str,
    text: &str,
    documents: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<CompiledPolicy, PolicyError> {
    compile_located(file, text, documents).map(|compiled| compiled.policy)
}

pub(super) fn compile_located(
    file: &str,
    text: &str,
    documents: &mut verb::Documents<'_>,
) -> Result<Compiled, PolicyError> {
    let mut findings = Findings::default();
    let lines = Lines::of(text);
    let raw = parse::parse(text, &mut findings);
    let compiled = raw.and_then(|raw| {
        Context {
            findings: &mut findings,
            lines: &lines,
            claims: Vec::new(),
        }
        .policy(raw, documents)
    });
    findings.finish(file, text, compiled)
}

/// Where findings go while one file is compiled.
struct Context<'a> {
    findings: &'a mut Findings,
    lines: &'a Lines,
    claims: Vec<Claim>,
}

impl Context<'_> {
    fn policy(mut self, raw: RawPolicy, documents: &mut verb::Documents<'_>) -> Option<Compiled> {
        let RawPolicy {
            version,
            tool,
            description,
            mode,
            worker,
            egress,
            local,
            filesystem,
            syscalls,
            limits,
            verb,
            matched,
        } = raw;
        self.version(version);
        let tool = self.tool(tool);
        let description = self.prose("description", description.given());
        let mode = match or(mode, RawMode::Enforce) {
            RawMode::Enforce => Mode::Enforce,
            RawMode::Observe => Mode::Observe,
        };
        let egress = self.egress(egress, local);
        let filesystem = self.filesystem(filesystem.given().map(|field| field.value));
        let worker = self.worker(worker.given().map(|field| field.value), &filesystem);
        let syscalls = self.syscalls(syscalls.given().map(|field| field.value));
        let limits = self.limits(limits.given().map(|field| field.value));
        let verbs = verb::compile(verb, &worker, documents, self.findings);
        let located = self.units(matched.given().map(|field| field.value));
        let units = located.iter().map(|(glob, _)| glob.clone()).collect();
        let (tool, tool_span) = tool?;
        let mut policy = CompiledPolicy {
            tool,
            description,
            mode,
            digest: Digest([0; 32]),
            worker,
            egress,
            filesystem,
            syscalls,
            limits,
            verbs,
            units,
        };
        policy.digest = digest::of(&policy);
        Some(Compiled {
            policy,
            tool_span,
            claims: self.claims,
            units: located,
        })
    }

    fn version(&mut self, field: Field<i64>) {
        let Some(version) = self.required("", "version", field, Span::default()) else {
            return;
        };
        if version.value != VERSION {
            let message = format!("policy version {} is unknown", version.value);
            self.findings.hinted(
                Code::UnknownValue,
                version.span,
                message,
                format!("this agent reads `version = {VERSION}`"),
            );
        }
    }

    fn tool(&mut self, field: Field<String>) -> Option<(ToolName, Span)> {
        let Located { value, span } = self.required("", "tool", field, Span::default())?;
        match ToolName::parse(&value) {
            Ok(name) => Some((name, span)),
            Err(error) => {
                let hint = "write it like \"invoice\" or \"fetch-2\"";
                self.findings
                    .hinted(Code::BadValue, span, error.to_string(), hint);
                None
            }
        }
    }

    fn egress(&mut self, egress: Field<RawEgress>, local: Field<RawLocal>) -> Egress {
        let (allow, allow_private, limits) = match egress.given() {
            Some(Located {
                value:
                    RawEgress {
                        allow,
                        allow_private,
                        limits,
                    },
                ..
            }) => (allow, allow_private, limits),
            None => (Field::Absent, Field::Absent, Field::Absent),
        };
        let local_allow = match local.given() {
            Some(Located {
                value: RawLocal { allow },
                ..
            }) => allow,
            None => Field::Absent,
        };
        let rules = self.rules(allow, allow_private, local_allow);
        let table = table::build(&rules).unwrap_or_else(|error| {
            self.too_much(error.line, &error.to_string(), table::TableError::HINT);
            Vec::new()
        });
        let names = NameTable::build(&rules).unwrap_or_else(|error| {
            self.too_much(error.line, &error.to_string(), NameTableError::HINT);
            NameTable::default()
        });
        Egress {
            rules,
            table,
            names,
            limits: self.egress_limits(limits.given().map(|field| field.value)),
        }
    }

    /// Reports more than a table holds, at the line of the rule that is one too many.
    fn too_much(&mut self, line: u32, message: &str, hint: &str) {
        let begin = self.lines.begin(line);
        let span = Span::from(begin..begin.saturating_add(1));
        self.findings.hinted(Code::OutOfBounds, span, message, hint);
    }

    fn egress_limits(&mut self, raw: Option<RawEgressLimits>) -> EgressLimits {
        let (connections, bytes_out) = match raw {
            Some(RawEgressLimits {
                connections,
                bytes_out,
            }) => (connections, bytes_out),
            None => (Field::Absent, Field::Absent),
        };
        EgressLimits {
            connections: self.count("connections", connections, quantity::CONNECTIONS, u64::MAX),
            bytes_out: self.size("bytes_out", bytes_out, quantity::BYTES_OUT, u64::MAX),
        }
    }

    /// The value of a key that must be there; its absence is reported at the table.
    fn required<T>(
        &mut self,
        path: &str,
        key: &str,
        field: Field<T>,
        table: Span,
    ) -> Option<Located<T>> {
        if matches!(field, Field::Absent) {
            let message = format!("{} needs `{key}`", place(path));
            match example(path, key) {
                Some(line) => self.findings.hinted(
                    Code::MissingKey,
                    table,
                    message,
                    format!("add a line like `{line}`"),
                ),
                None => self.findings.add(Code::MissingKey, table, message),
            }
        }
        field.given()
    }

    fn prose(&mut self, key: &str, text: Option<Located<String>>) -> String {
        prose(self.findings, key, text)
    }

    fn count(&mut self, key: &str, field: Field<i64>, bounds: Bounds, default: u64) -> u64 {
        let Some(Located { value, span }) = field.given() else {
            return default;
        };
        let number = u64::try_from(value).ok();
        self.within(key, number, span, bounds, |n| n.to_string(), default)
    }

    fn size(&mut self, key: &str, field: Field<String>, bounds: Bounds, default: u64) -> u64 {
        let Some(Located { value, span }) = field.given() else {
            return default;
        };
        match quantity::size(&value) {
            Ok(bytes) => self.within(key, Some(bytes), span, bounds, quantity::size_text, default),
            Err(error) => {
                self.findings
                    .hinted(Code::BadValue, span, error.to_string(), error.hint());
                default
            }
        }
    }

    fn within(
        &mut self,
        key: &str,
        number: Option<u64>,
        span: Span,
        bounds: Bounds,
        text: impl Fn(u64) -> String,
        default: u64,
    ) -> u64 {
        if let Some(number) = number.filter(|n| (bounds.min..=bounds.max).contains(n)) {
            return number;
        }
        let message = format!("`{key}` is beyond its bounds");
        let hint = format!("{} to {}", text(bounds.min), text(bounds.max));
        self.findings.hinted(Code::OutOfBounds, span, message, hint);
        default
    }
}

/// Text for people: bounded, and without anything that a terminal would obey.
pub(super) fn prose(findings: &mut Findings, key: &str, text: Option<Located<String>>) -> String {
    let Some(Located { value, span }) = text else {
        return String::new();
    };
    if value.len() > PROSE_BYTES_MAX {
        let message = format!("`{key}` has more than {PROSE_BYTES_MAX} bytes");
        findings.add(Code::OutOfBounds, span, message);
    }
    if value.chars().any(char::is_control) {
        let message = format!("`{key}` holds control characters");
        let hint = "write it on one line, without tabs and escapes";
        findings.hinted(Code::BadValue, span, message, hint);
    }
    value
}

/// The value, or what stands for none. An unreadable one was reported: the policy is refused anyway.
fn or<T>(field: Field<T>, default: T) -> T {
    field.given().map_or(default, |located| located.value)
}

/// The name is no tool name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "tool name `{0}`: 1 to {TOOL_NAME_BYTES_MAX} of a-z, 0-9, `-` and `_`, beginning with a letter"
)]
pub struct ToolNameError(String);

impl ToolName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, ToolNameError> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ToolNameError(text.to_owned()))
        }
    }
}

/// Whether the text has the shape of a tool's or verb's name.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= TOOL_NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}
