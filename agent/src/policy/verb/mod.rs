//! `[[verb]]`: judged once, with its schemas, which somebody else reads from their files.
//!
//! A schema that is open or without an end is a mistake of the policy; one that can not be compiled
//! puts its verb into quarantine, and the others go on.

mod limits;
mod schemas;

use super::{
    compile::{from_hex, is_name, prose},
    compiled::{Idempotency, Unbounded, Verb, VerbLimits, Which, Worker, WorkerProtocol},
    error::{Code, Findings, Related, Span},
    example::example,
    raw::{
        Field, List, Located, RawIdempotency, RawRisk, RawUnbounded, RawVerb, RawVerbLimits,
        RawWhich,
    },
};

pub(super) use self::schemas::Documents;
use self::schemas::{Schemas, Wanted};

/// Verbs of a policy.
const VERBS_MAX: usize = 128;
/// Open places of a verb's schemas.
const UNBOUNDED_MAX: usize = 64;
/// Bytes of a scope and of a condition.
const TEXT_BYTES_MAX: usize = 256;
/// Bytes of a tool's name in MCP.
const WORKER_TOOL_BYTES_MAX: usize = 128;
/// Bytes of an open place's path.
const PATH_BYTES_MAX: usize = 512;

/// Compiles all verbs of a policy; by name.
pub(super) fn compile(
    field: Field<List<RawVerb>>,
    worker: &Worker,
    documents: &mut Documents<'_>,
    findings: &mut Findings,
) -> Vec<Verb> {
    let Some(Located { value: raw, span }) = field.given() else {
        return Vec::new();
    };
    if raw.len() > VERBS_MAX {
        let message = format!("more than {VERBS_MAX} verbs");
        findings.add(Code::OutOfBounds, span, message);
        return Vec::new();
    }
    let mut names: Vec<(String, Span)> = Vec::new();
    let mut schemas = Schemas::new(documents);
    let mut verbs: Vec<Verb> = Vec::new();
    for Located { value, span } in raw {
        fits_worker(worker, span, findings);
        let builder = Builder {
            findings,
            schemas: &mut schemas,
            span,
        };
        verbs.extend(builder.verb(value, &mut names));
    }
    verbs.sort_by(|a, b| a.name.cmp(&b.name));
    verbs
}

fn fits_worker(worker: &Worker, span: Span, findings: &mut Findings) {
    if worker.protocol == WorkerProtocol::Exec {
        let message = "a verb needs a worker that is asked and answers";
        let hint = "write `protocol = \"mcp\"` or `protocol = \"json\"` under `[worker]`";
        findings.hinted(Code::Conflict, span, message, hint);
    } else if worker.command.is_empty() {
        let message = "a verb needs a worker with a command";
        let hint = "add a line like `command = [\"/opt/tool/bin/worker\"]` under `[worker]`";
        findings.hinted(Code::Conflict, span, message, hint);
    }
}

fn idempotency(field: Field<RawIdempotency>) -> Idempotency {
    match field.given().map(|field| field.value) {
        None | Some(RawIdempotency::Optional) => Idempotency::Optional,
        Some(RawIdempotency::Required) => Idempotency::Required,
        Some(RawIdempotency::None) => Idempotency::None,
    }
}

struct Builder<'a, 'd> {
    findings: &'a mut Findings,
    schemas: &'a mut Schemas<'d>,
    span: Span,
}

impl Builder<'_, '_> {
    fn verb(mut self, raw: RawVerb, names: &mut Vec<(String, Span)>) -> Option<Verb> {
        let RawVerb {
            name,
            description,
            worker_tool,
            scope,
            arguments,
            result,
            unbounded,
            idempotency,
            durable,
            proof_body,
            pin,
            limits,
            risk,
        } = raw;
        let name = self.name(name, names);
        let description = prose(self.findings, "description", description.given());
        let worker_tool = self.worker_tool(worker_tool);
        let scope = self.scope(scope);
        let unbounded = self.unbounded(unbounded);
        let arguments = self.schema(Which::Arguments, arguments, &unbounded);
        let result = match result {
            Field::Absent => None,
            given @ (Field::Given(_) | Field::Unreadable) => {
                Some(self.schema(Which::Result, given, &unbounded))
            }
        };
        self.unused(&unbounded, result.is_some());
        let conditions = self.conditions(risk.given().map(|field| field.value));
        let limits = self.limits(limits.given().map(|field| field.value));
        let pin = self.pin(pin);
        let (name, scope, arguments) = (name?, scope?, arguments?);
        let result = match result {
            None => None,
            Some(read) => Some(read?),
        };
        let quarantine = arguments.quarantine();
        let quarantine = quarantine.or_else(|| result.as_ref()?.quarantine());
        let quarantine = quarantine.map(str::to_owned);
        let mut unbounded: Vec<Unbounded> = unbounded.into_iter().map(|open| open.place).collect();
        unbounded.sort();
        Some(Verb {
            worker_tool: worker_tool.unwrap_or_else(|| name.clone()),
            name,
            scope,
            description,
            arguments,
            result,
            unbounded,
            limits,
            approval: !conditions.is_empty(),
            durable: durable
                .given()
                .map_or(!conditions.is_empty(), |field| field.value),
            conditions,
            idempotency: self::idempotency(idempotency),
            body_proof: proof_body.given().is_some_and(|field| field.value),
            quarantine,
            pin,
        })
    }

    fn name(&mut self, field: Field<String>, names: &mut Vec<(String, Span)>) -> Option<String> {
        let Located { value, span } = self.required("verb", "name", field)?;
        if !is_name(&value) {
            let message = format!("verb name `{}` has another shape", value.escape_debug());
            let hint = "1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter";
            self.findings.hinted(Code::BadValue, span, message, hint);
        }
        if let Some((_, first)) = names.iter().find(|(name, _)| *name == value) {
            let related = Related {
                span: *first,
                label: "first here".to_owned(),
            };
            let message = format!("verb `{value}` is there twice");
            self.findings.paired(
                Code::Duplicate,
                span,
                message,
                "rename or drop one",
                related,
            );
        }
        names.push((value.clone(), span));
        Some(value)
    }

    fn worker_tool(&mut self, field: Field<String>) -> Option<String> {
        let Located { value, span } = field.given()?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
        if value.is_empty() || value.len() > WORKER_TOOL_BYTES_MAX || !value.bytes().all(letter) {
            let message = format!("`{}` is no name of an MCP tool", value.escape_debug());
            let hint = "1 to 128 of A-Z, a-z, 0-9, `_`, `-`, `.` and `/`";
            self.findings.hinted(Code::BadValue, span, message, hint);
        }
        Some(value)
    }

    fn scope(&mut self, field: Field<String>) -> Option<String> {
        let Located { value, span } = self.required("verb", "scope", field)?;
        let shaped = value.len() <= TEXT_BYTES_MAX && value.split(':').all(is_name);
        if !shaped {
            let message = format!("scope `{}` has another shape", value.escape_debug());
            let hint = "names joined by `:`, like \"invoice:create\"";
            self.findings.hinted(Code::BadValue, span, message, hint);
        }
        Some(value)
    }

    fn unbounded(&mut self, field: Field<List<RawUnbounded>>) -> Vec<Wanted> {
        let Some(Located { value: raw, span }) = field.given() else {
            return Vec::new();
        };
        if raw.len() > UNBOUNDED_MAX {
            let message = format!("more than {UNBOUNDED_MAX} open places");
            self.findings.add(Code::OutOfBounds, span, message);
            return Vec::new();
        }
        raw.into_iter()
            .filter_map(|Located { value, span }| self.open_place(value, span))
            .collect()
    }

    fn open_place(&mut self, raw: RawUnbounded, span: Span) -> Option<Wanted> {
        let RawUnbounded {
            path,
            schema,
            reason,
        } = raw;
        let path = self.required("verb.unbounded", "path", path)?;
        let reason = self.required("verb.unbounded", "reason", reason)?;
        if path.value.len() > PATH_BYTES_MAX
            || !(path.value.is_empty() || path.value.starts_with('/'))
        {
            let message = format!("`{}` is no JSON pointer", path.value.escape_debug());
            let hint = "write it like \"/properties/note\"";
            self.findings
                .hinted(Code::BadValue, path.span, message, hint);
            return None;
        }
        let reason = prose(self.findings, "reason", Some(reason));
        if reason.trim().is_empty() {
            let hint = "say why it needs no bound";
            self.findings
                .hinted(Code::BadValue, span, "`reason` is empty", hint);
        }
        let schema = match schema.given().map(|field| field.value) {
            None | Some(RawWhich::Arguments) => Which::Arguments,
            Some(RawWhich::Result) => Which::Result,
        };
        let path = path.value;
        Some(Wanted::new(
            Unbounded {
                schema,
                path,
                reason,
            },
            span,
        ))
    }

    fn conditions(&mut self, raw: Option<RawRisk>) -> Vec<String> {
        let Some(RawRisk { approve_if }) = raw else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for Located { value, span } in approve_if.given().map_or_else(Vec::new, |list| list.value) {
            if value.trim().is_empty() || value.len() > TEXT_BYTES_MAX {
                let message = format!("a condition has 1 to {TEXT_BYTES_MAX} bytes");
                let hint = "write it like \"arguments.amount > 1000\"";
                self.findings.hinted(Code::BadValue, span, message, hint);
            }
            out.push(value);
        }
        out
    }

    fn limits(&mut self, raw: Option<RawVerbLimits>) -> VerbLimits {
        let RawVerbLimits {
            rate,
            concurrency,
            per_day,
            repeats,
        } = raw.unwrap_or(RawVerbLimits {
            rate: Field::Absent,
            concurrency: Field::Absent,
            per_day: Field::Absent,
            repeats: Field::Absent,
        });
        VerbLimits {
            rates: limits::rates(rate, self.findings),
            concurrency: limits::concurrency(concurrency, self.findings),
            per_day: limits::per_day(per_day, self.findings),
            repeats: limits::repeats(repeats, self.findings),
        }
    }

    fn pin(&mut self, field: Field<String>) -> Option<[u8; 32]> {
        let Located { value, span } = field.given()?;
        let sum = from_hex(&value);
        if sum.is_none() {
            let message = "`pin` is not 64 hexadecimal digits";
            let hint = "it is the SHA-256 of the canonical definition that the worker lists";
            self.findings.hinted(Code::BadValue, span, message, hint);
        }
        sum
    }

    fn required<T>(
        &mut self,
        table: &str,
        key: &'static str,
        field: Field<T>,
    ) -> Option<Located<T>> {
        if matches!(field, Field::Absent) {
            let message = format!("`{table}` needs `{key}`");
            let hint = example(table, key)
                .map_or_else(String::new, |line| format!("add a line like `{line}`"));
            self.findings
                .hinted(Code::MissingKey, self.span, message, hint);
        }
        field.given()
    }
}
