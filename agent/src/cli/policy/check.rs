//! `stockade policy check`: every mistake of every file, and nothing is changed.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    look, pinned,
    print::{Answer, Colour, paint},
};
use crate::{
    exit::Code,
    ownership,
    policy::{
        caution::{Caution, cautions},
        compiled::CompiledPolicy,
        digest::mode_text,
        store::{self, PolicySet, SetError},
    },
};

/// What to check.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all good, 1 something is wrong.\n\nExample:\n  \
                        stockade policy check /etc/stockade/policies.d"
)]
pub struct Arguments {
    /// Policy files, or directories of them; all are checked as one set
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let (set, empty) = match read(&arguments.paths) {
        Ok(read) => read,
        Err(error) => {
            return Answer::refused(Code::Finding, &error, arguments.json);
        }
    };
    // Of a path that is another than was meant, nothing is wrong either.
    let empty = empty
        .iter()
        .map(|folder| format!("no policies in `{}`", folder.display()));
    if arguments.json {
        let policies: Vec<Value> = set
            .iter()
            .map(|policy| object(policy, &Pinning::of(&set, policy)))
            .collect();
        let warnings: Vec<String> = empty.collect();
        let value = json!({ "ok": true, "policies": policies, "errors": [], "warnings": warnings });
        return Answer::json(Code::Ok, &value);
    }
    let lines: Vec<String> = set
        .iter()
        .map(|policy| line(policy, &Pinning::of(&set, policy)))
        .collect();
    let count = match lines.len() {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    };
    let warn = paint(Colour::Yellow, "warn");
    let empty: Vec<String> = empty.map(|text| format!("{warn}  {text}\n")).collect();
    let text = format!(
        "{}{}{count}, nothing wrong\n",
        lines.concat(),
        empty.concat()
    );
    Ok(Answer::text(Code::Ok, text))
}

/// Files and directories as one set: a tool is named once. Beside it the directories without policies.
fn read(paths: &[PathBuf]) -> Result<(PolicySet, Vec<PathBuf>), SetError> {
    let mut files = Vec::new();
    let mut empty = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        if path.is_dir() {
            match store::list(path) {
                Ok(list) if list.is_empty() => empty.push(path.clone()),
                Ok(list) => files.extend(list),
                Err(error) => errors.push(error),
            }
        } else {
            files.extend(store::without_locks(std::slice::from_ref(path)));
        }
    }
    files.sort();
    files.dedup();
    let place = paths.first().cloned().unwrap_or_default();
    match store::read_files(&place, &files) {
        Ok(set) if errors.is_empty() => Ok((set, empty)),
        Ok(_) => Err(SetError(errors)),
        Err(SetError(more)) => {
            errors.extend(more);
            Err(SetError(errors))
        }
    }
}

/// How far the content of what a policy runs is pinned.
struct Pinning {
    /// Whether there is a lock file.
    locked: bool,
    /// What is not as it was pinned.
    differences: Vec<String>,
    /// Why an agent would not believe the file.
    distrust: Option<String>,
}

impl Pinning {
    fn of(set: &PolicySet, policy: &CompiledPolicy) -> Self {
        let file = set.file(&policy.tool);
        // Read once already, and it counted.
        let lock = file.and_then(|file| store::read_lock(file).ok().flatten());
        Self {
            locked: lock.is_some(),
            differences: pinned::differences(policy, lock.as_ref()),
            distrust: file.and_then(distrust),
        }
    }

    fn words(&self, policy: &CompiledPolicy) -> String {
        match (self.locked, policy.worker.pins.len()) {
            (false, 0) if policy.worker.command.is_empty() => String::new(),
            (false, 0) => ", no lock".to_owned(),
            (false, pins) => format!(", no lock, {pins} pinned"),
            (true, pins) => format!(", {pins} pinned"),
        }
    }
}

/// Why an agent would refuse a file of its policy folder. Of files elsewhere only those are told that
/// everybody may write: owner and group of a checkout are not those of the folder.
fn distrust(file: &Path) -> Option<String> {
    let looked = if file.starts_with(look::POLICIES) {
        let open = File::open(file).ok()?;
        ownership::file(file, &open)
    } else {
        ownership::named_file(file)
    };
    Some(looked.err()?.to_string().replace('\n', "; "))
}

/// Cautions of one policy that are printed; the rest is counted.
const CAUTIONS_MAX: usize = 50;

fn line(policy: &CompiledPolicy, pinning: &Pinning) -> String {
    let rules = match policy.egress.rules.len() {
        1 => "1 rule".to_owned(),
        count => format!("{count} rules"),
    };
    let verbs = match policy.verbs.len() {
        0 => String::new(),
        1 => "1 verb, ".to_owned(),
        count => format!("{count} verbs, "),
    };
    let mut lines = vec![format!(
        "{}  {}  {rules}, {verbs}{}{}",
        paint(Colour::Green, "ok"),
        policy.tool,
        mode_text(policy.mode),
        pinning.words(policy),
    )];
    let cautions = cautions(policy);
    let warn = paint(Colour::Yellow, "warn");
    for Caution { line, about, text } in cautions.iter().take(CAUTIONS_MAX) {
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        lines.push(format!("    {warn}  {place}`{about}`: {text}"));
    }
    for difference in &pinning.differences {
        lines.push(format!("    {warn}  not as pinned: {difference}"));
    }
    if let Some(distrust) = &pinning.distrust {
        lines.push(format!("    {warn}  an agent would refuse {distrust}"));
    }
    let more = cautions.len().saturating_sub(CAUTIONS_MAX);
    if more > 0 {
        lines.push(format!("    and {more} more warnings"));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn object(policy: &CompiledPolicy, pinning: &Pinning) -> Value {
    json!({
        "tool": policy.tool.as_str(),
        "mode": mode_text(policy.mode),
        "rules": policy.egress.rules.len(),
        "prefixes": policy.egress.table.len(),
        "verbs": policy.verbs.iter().map(|verb| verb.name.as_str()).collect::<Vec<&str>>(),
        "names": policy.egress.names.entries().len(),
        "digest": policy.digest.to_string(),
        "lock": pinning.locked,
        "pins": policy.worker.pins.len(),
        "not_as_pinned": pinning.differences,
        "distrust": pinning.distrust,
        "warnings": cautions(policy).iter().map(warning).collect::<Vec<Value>>(),
    })
}

fn warning(caution: &Caution<'_>) -> Value {
    json!({
        "line": caution.line,
        "about": caution.about,
        "message": caution.text,
    })
}
