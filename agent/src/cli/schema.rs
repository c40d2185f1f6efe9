//! `stockade schema`: looks at a verb's JSON Schema alone, as `policy check` does, and proposes what it
//! lacks. Nothing is written.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::policy::print::{Answer, Colour, paint};
use crate::{
    exit::Code,
    json::{self, Limits},
    policy::{
        schema::{
            Issue, Linted, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, Schema, SchemaError,
            tighten::{self, Tightened},
        },
        store,
    },
};

/// What to do with schemas.
#[derive(Subcommand, Debug)]
pub(super) enum SchemaCommand {
    /// Say where a schema is open or without an end, and whether it can be applied
    #[command(
        after_help = "Exit codes: 0 all good, 1 something is wrong.\n\nExample:\n  \
                      stockade schema check /etc/stockade/policies.d/schemas/*.json"
    )]
    Check(CheckArguments),
    /// Propose the schema with every object closed and every value bounded
    #[command(
        after_help = "The bounds are guesses: look at each. What only a person can decide is told on \
                      standard error.\nExit codes: 0 nothing is left to decide, 1 something is, or it is no \
                      schema.\n\n\
                      Example:\n  stockade schema tighten create.json > schemas/create.json"
    )]
    Tighten(TightenArguments),
}

/// Which schemas to check.
#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// Schema files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which schema to tighten.
#[derive(Args, Debug)]
pub(super) struct TightenArguments {
    /// Schema file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the changes alone, as a JSON Patch (RFC 6902)
    #[arg(long)]
    patch: bool,
}

impl SchemaCommand {
    /// Runs it. An error is a failure of the host or the command line; a bad schema is an answer.
    pub(super) fn run(self) -> anyhow::Result<Code> {
        Ok(self.answer()?.tell()?)
    }

    fn answer(&self) -> anyhow::Result<Answer> {
        match self {
            Self::Check(arguments) => check(arguments),
            Self::Tighten(arguments) => tightened(arguments),
        }
    }
}

/// A schema, or why there is none.
type Read = Result<Linted, String>;

fn read(file: &Path) -> Read {
    let bytes = store::read_schema(file)?;
    Schema::read(&bytes).map_err(|error| error.to_string())
}

fn check(arguments: &CheckArguments) -> anyhow::Result<Answer> {
    let mut objects = Vec::new();
    let mut text = String::new();
    let mut code = Code::Ok;
    for file in &arguments.files {
        let read = read(file);
        let name = file.display().to_string();
        if !is_good(&read) {
            code = Code::Finding;
        }
        text.push_str(&lines(&name, &read));
        objects.push(object(&name, &read));
    }
    if arguments.json {
        return Answer::json(code, &Value::Array(objects));
    }
    Ok(Answer::text(code, text))
}

fn is_good(read: &Read) -> bool {
    read.as_ref()
        .is_ok_and(|linted| linted.issues.is_empty() && linted.schema.quarantine().is_none())
}

fn lines(name: &str, read: &Read) -> String {
    let bad = paint(Colour::Red, "bad");
    let Linted { schema, issues } = match read {
        Ok(linted) => linted,
        Err(error) => return format!("{bad}  {name}  {error}\n"),
    };
    let mut text = if is_good(read) {
        let digest = hex(schema.digest());
        let ok = paint(Colour::Green, "ok");
        format!("{ok}  {name}  {}, {digest}\n", schema.draft().name())
    } else {
        format!("{bad}  {name}  {}\n", schema.draft().name())
    };
    for issue in issues {
        text.push_str(&line(issue));
    }
    if let Some(why) = schema.quarantine() {
        let line = format!("    can not be applied: {}\n", plain(why));
        text.push_str(&line);
    }
    text
}

fn line(issue: &Issue) -> String {
    let place = plain(&issue.pointer);
    let (message, hint) = (issue.rule.message(), issue.rule.hint());
    format!("    #{place}: {message}\n        hint: {hint}\n")
}

/// A schema may come from elsewhere, and a terminal obeys what it prints.
fn plain(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(plain).collect()
}

fn object(name: &str, read: &Read) -> Value {
    match read {
        Err(error) => json!({ "file": name, "ok": false, "error": error }),
        Ok(Linted { schema, issues }) => json!({
            "file": name,
            "ok": is_good(read),
            "draft": schema.draft().name(),
            "digest": hex(schema.digest()),
            "quarantine": schema.quarantine(),
            "issues": issues.iter().map(|issue| json!({
                "pointer": issue.pointer,
                "message": issue.rule.message(),
                "hint": issue.rule.hint(),
                "may_be_listed_as_unbounded": issue.rule.excusable(),
            })).collect::<Vec<Value>>(),
        }),
    }
}

fn hex(digest: [u8; 32]) -> String {
    crate::policy::compiled::Digest(digest).to_string()
}

fn proposal(file: &Path) -> Result<Tightened, String> {
    let limits = Limits {
        bytes: SCHEMA_BYTES_MAX,
        depth: SCHEMA_DEPTH_MAX,
    };
    let bytes = store::read_schema(file)?;
    let document = json::parse(&bytes, limits).map_err(|error| error.to_string())?;
    tighten::tighten(&document).ok_or_else(|| SchemaError::Draft.to_string())
}

fn tightened(arguments: &TightenArguments) -> anyhow::Result<Answer> {
    let file = &arguments.file;
    let proposal = match proposal(file) {
        Ok(proposal) => proposal,
        Err(why) => {
            let mut answer = Answer::text(Code::Finding, String::new());
            answer.err = format!("error: schema `{}`: {why}\n", file.display());
            return Ok(answer);
        }
    };
    let code = if proposal.left.is_empty() {
        Code::Ok
    } else {
        Code::Finding
    };
    let printed = if arguments.patch {
        Value::Array(proposal.changes.clone())
    } else {
        proposal.document
    };
    let mut answer = Answer::json(code, &printed)?;
    answer.err = format!("{} changes\n", proposal.changes.len());
    for change in &proposal.changes {
        let word = |key: &str| change.get(key).map(ToString::to_string).unwrap_or_default();
        let path = change
            .get("path")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let line = format!("    {}: {}\n", plain(path), word("value"));
        answer.err.push_str(&line);
    }
    for issue in &proposal.left {
        answer.err.push_str("left to decide:\n");
        answer.err.push_str(&line(issue));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
