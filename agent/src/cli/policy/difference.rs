//! `stockade policy diff`: what a push would change.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    change, look,
    print::{Answer, Colour, paint},
};
use crate::{
    cli::Target,
    exit::Code,
    policy::{
        compiled::{CompiledPolicy, Rule},
        diff::{self, Change, PolicyDiff, SetDiff, When},
        store::{PolicySet, SetError},
    },
};

/// What to compare.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing differs, 1 something does, 65 a policy is wrong; with one\n\
                  path, 75 no agent.\n\n\
                  Examples:\n  \
                  stockade policy diff /etc/stockade/policies.d ./policies.new\n  \
                  stockade policy diff ./web.toml"
)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Policy files or directories: as it is, and as it would be. One alone is compared with what the
    /// agent has in force: a file with its tool, a directory with the whole set
    #[arg(required = true, num_args = 1..=2, value_names = ["OLD", "NEW"])]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let (old_path, new_path) = match arguments.paths.as_slice() {
        [new] => return with_what_is_in_force(arguments, new),
        [old, new, ..] => (old, new),
        [] => anyhow::bail!("diff: no path"),
    };
    let (old, new) = match (look::set(old_path), look::set(new_path)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            let errors = [old, new].into_iter().filter_map(Result::err);
            let errors = SetError(errors.flat_map(|SetError(errors)| errors).collect());
            return Answer::refused(Code::Policy, &errors, arguments.json);
        }
    };
    let diff = compare(old_path, new_path, &old, &new);
    answer(&diff, arguments.json)
}

fn answer(diff: &SetDiff<'_>, as_json: bool) -> anyhow::Result<Answer> {
    let code = if diff.is_empty() {
        Code::Ok
    } else {
        Code::Finding
    };
    if as_json {
        return Answer::json(code, &object(diff));
    }
    Ok(Answer::text(code, words(diff)))
}

fn with_what_is_in_force(arguments: &Arguments, new: &Path) -> anyhow::Result<Answer> {
    let as_json = arguments.json;
    let files = match change::collect(&[new.to_owned()])? {
        Ok(files) => files,
        Err(error) => return Answer::refused(Code::Policy, &error, as_json),
    };
    let preview = change::preview_of_push(&arguments.target, &files, new.is_dir())?;
    let (old, new) = (preview.before()?, preview.after()?);
    answer(&diff::sets(&old, &new), as_json)
}

/// Two files are two states of one policy even where the tool was renamed.
fn compare<'a>(
    old_path: &Path,
    new_path: &Path,
    old: &'a PolicySet,
    new: &'a PolicySet,
) -> SetDiff<'a> {
    if !old_path.is_dir()
        && !new_path.is_dir()
        && let (Some(before), Some(after)) = (old.iter().next(), new.iter().next())
    {
        let one = diff::policies(before, after);
        let changed = if one.is_empty() {
            Vec::new()
        } else {
            vec![one]
        };
        return SetDiff {
            changed,
            ..SetDiff::default()
        };
    }
    diff::sets(old, new)
}

pub(super) fn words(diff: &SetDiff<'_>) -> String {
    if diff.is_empty() {
        return "nothing differs\n".to_owned();
    }
    let mut out = Vec::new();
    for policy in &diff.removed {
        let line = format!("- tool {} (its sessions end)", policy.tool);
        out.push(paint(Colour::Red, &line));
    }
    for policy in &diff.added {
        let line = format!(
            "+ tool {} ({} rules)",
            policy.tool,
            policy.egress.rules.len()
        );
        out.push(paint(Colour::Green, &line));
    }
    for changes in &diff.changed {
        out.extend(policy_words(changes));
    }
    out.push(String::new());
    out.join("\n")
}

fn policy_words(diff: &PolicyDiff<'_>) -> Vec<String> {
    let mut out = vec![format!("tool {}", diff.tool)];
    for rule in &diff.removed {
        out.push(paint(Colour::Red, &format!("  - {}", rule.text)));
    }
    for rule in &diff.added {
        out.push(paint(Colour::Green, &format!("  + {}", rule.text)));
    }
    for change in &diff.changed {
        let Change {
            what,
            old,
            new,
            when,
        } = change;
        let when = match when {
            When::AtOnce => "",
            When::NewSessions => " (new sessions)",
        };
        let line = format!("  ~ {what}: {old} -> {new}{when}");
        out.push(paint(Colour::Yellow, &line));
    }
    out
}

pub(super) fn object(diff: &SetDiff<'_>) -> Value {
    let tools = |policies: &[&CompiledPolicy]| -> Vec<String> {
        policies
            .iter()
            .map(|policy| policy.tool.to_string())
            .collect()
    };
    json!({
        "added": tools(&diff.added),
        "removed": tools(&diff.removed),
        "changed": diff.changed.iter().map(policy_object).collect::<Vec<Value>>(),
    })
}

fn policy_object(diff: &PolicyDiff<'_>) -> Value {
    let rules = |rules: &[&Rule]| -> Vec<Value> {
        rules
            .iter()
            .map(|rule| {
                json!({
                    "id": format!("{:016x}", rule.id.0),
                    "text": rule.text,
                    "line": rule.line,
                })
            })
            .collect()
    };
    let change = |change: &Change| {
        json!({
            "what": change.what,
            "old": change.old,
            "new": change.new,
            "when": match change.when {
                When::AtOnce => "at_once",
                When::NewSessions => "new_sessions",
            },
        })
    };
    json!({
        "tool": diff.tool.as_str(),
        "added": rules(&diff.added),
        "removed": rules(&diff.removed),
        "changed": diff.changed.iter().map(change).collect::<Vec<Value>>(),
    })
}
