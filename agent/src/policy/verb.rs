//! `[[verb]]`: checked in full, so that `check` finds mistakes, then refused as a whole: verbs are
//! enforced by the broker, and a policy is never enforced by half.

use super::{
    compile::is_name,
    error::{Code, Findings, Related, Span},
    example::example,
    raw::{Field, List, Located, RawRisk, RawVerb, RawVerbLimits},
};

/// Units of time of a rate.
const PER: &[&str] = &["sec", "min", "hour", "day"];
/// Subjects of a rate.
const SUBJECTS: &[&str] = &["user", "session", "tool"];
/// Calls of a rate.
const RATE_MAX: u32 = 1_000_000;
/// Bytes of a scope and of a condition.
const TEXT_BYTES_MAX: usize = 256;

/// Checks all verbs of a policy.
pub(super) fn check(field: Field<List<RawVerb>>, findings: &mut Findings) {
    let mut names: Vec<(String, Span)> = Vec::new();
    for Located { value, span } in field.given().map_or_else(Vec::new, |list| list.value) {
        let RawVerb {
            name,
            scope,
            arguments,
            result,
            limits,
            risk,
        } = value;
        let mut verb = Verb { findings, span };
        verb.name(name, &mut names);
        verb.scope(scope);
        verb.schema("arguments", arguments);
        if !matches!(result, Field::Absent) {
            verb.schema("result", result);
        }
        if let Some(RawVerbLimits { rate }) = limits.given().map(|field| field.value) {
            verb.rate(rate);
        }
        if let Some(RawRisk { approve_if }) = risk.given().map(|field| field.value) {
            verb.conditions(approve_if);
        }
        let message = "verbs need the broker, which this version does not have";
        let hint = "drop the `[[verb]]` tables; the worker runs with `stockade run`";
        findings.hinted(Code::Unsupported, span, message, hint);
    }
}

struct Verb<'a> {
    findings: &'a mut Findings,
    span: Span,
}

impl Verb<'_> {
    fn name(&mut self, field: Field<String>, names: &mut Vec<(String, Span)>) {
        let Some(Located { value, span }) = self.required("name", field) else {
            return;
        };
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
        names.push((value, span));
    }

    fn scope(&mut self, field: Field<String>) {
        let Some(Located { value, span }) = self.required("scope", field) else {
            return;
        };
        let shaped = value.len() <= TEXT_BYTES_MAX && value.split(':').all(is_name);
        if !shaped {
            let message = format!("scope `{}` has another shape", value.escape_debug());
            let hint = "names joined by `:`, like \"invoice:create\"";
            self.findings.hinted(Code::BadValue, span, message, hint);
        }
    }

    fn schema(&mut self, key: &'static str, field: Field<String>) {
        let Some(Located { value, span }) = self.required(key, field) else {
            return;
        };
        let inside = !value.split('/').any(|part| part == ".." || part == ".");
        let file = std::path::Path::new(&value)
            .extension()
            .is_some_and(|extension| extension == "json");
        if !inside || !file || value.chars().any(char::is_control) {
            let message = format!("`{}` is no path of a JSON Schema", value.escape_debug());
            let hint = "relative to the policy file or absolute, without `..`, ending in .json";
            self.findings.hinted(Code::BadPath, span, message, hint);
        }
    }

    fn rate(&mut self, field: Field<String>) {
        let Some(Located { value, span }) = field.given() else {
            return;
        };
        if !is_rate(&value) {
            let message = format!("`{}` is no rate", value.escape_debug());
            let hint = format!(
                "write it like \"10/min per user\": 1 to {RATE_MAX} calls, per {}, per {}",
                PER.join(", "),
                SUBJECTS.join(", ")
            );
            self.findings.hinted(Code::BadValue, span, message, hint);
        }
    }

    fn conditions(&mut self, field: Field<List<String>>) {
        for Located { value, span } in field.given().map_or_else(Vec::new, |list| list.value) {
            if value.trim().is_empty() || value.len() > TEXT_BYTES_MAX {
                let message = format!("a condition has 1 to {TEXT_BYTES_MAX} bytes");
                let hint = "write it like \"arguments.amount > 1000\"";
                self.findings.hinted(Code::BadValue, span, message, hint);
            }
        }
    }

    fn required<T>(&mut self, key: &'static str, field: Field<T>) -> Option<Located<T>> {
        if matches!(field, Field::Absent) {
            let message = format!("`verb` needs `{key}`");
            let hint = example("verb", key)
                .map_or_else(String::new, |line| format!("add a line like `{line}`"));
            self.findings
                .hinted(Code::MissingKey, self.span, message, hint);
        }
        field.given()
    }
}

/// `10/min per user`
fn is_rate(text: &str) -> bool {
    let Some((count, rest)) = text.split_once('/') else {
        return false;
    };
    let Some((unit, subject)) = rest.split_once(" per ") else {
        return false;
    };
    let counted = count.bytes().all(|b| b.is_ascii_digit())
        && count
            .parse::<u32>()
            .is_ok_and(|count| (1..=RATE_MAX).contains(&count));
    counted && PER.contains(&unit) && SUBJECTS.contains(&subject)
}
