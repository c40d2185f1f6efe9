//! `stockade policy pin`: writes the sums of what a policy runs into a lock file beside it, or says
//! what is no longer as it was.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::{
    pinned,
    print::{Answer, Colour, paint},
};
use crate::{
    exit::Code,
    policy::{
        compiled::{CompiledPolicy, Digest},
        lock::{Lock, Locked, Role},
        store::{self, SetError, StoreError},
    },
};

/// Everybody may read a lock file: it holds nothing but names and sums.
const LOCK_MODE: u32 = 0o644;

/// What to pin.
#[derive(Args, Debug)]
#[command(
    after_help = "The program of the command, its interpreter and the files among its arguments \
                        are pinned; `--also` adds files and folders, which stay in the lock file.\n\n\
                        Exit codes: 0 written, or all as it was; 1 `--check` found a difference, or a \
                        path can not be pinned; 65 the policy is wrong.\n\nExamples:\n  \
                        stockade policy pin /etc/stockade/policies.d/invoice.toml --also /opt/tools/invoice/lib\n  \
                        stockade policy pin --check /etc/stockade/policies.d/*.toml"
)]
pub struct Arguments {
    /// Policy files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Pin this file or folder too
    #[arg(long, value_name = "PATH")]
    also: Vec<PathBuf>,
    /// Take this path, which was asked for once, out of the lock file
    #[arg(long, value_name = "PATH")]
    forget: Vec<PathBuf>,
    /// Write nothing; say what is not as it was pinned
    #[arg(long, conflicts_with_all = ["also", "forget"])]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of one policy.
struct Done {
    file: PathBuf,
    tool: String,
    /// What is pinned now, or was.
    pins: Vec<Locked>,
    /// What is wrong.
    differences: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let asks = !(arguments.also.is_empty() && arguments.forget.is_empty());
    if asks && arguments.files.len() > 1 {
        let message = "several files\nhint: `--also` and `--forget` are of one policy";
        return Ok(Answer::usage(&io::Error::other(message)));
    }
    let mut all = Vec::new();
    for file in store::without_locks(&arguments.files) {
        let done = if arguments.check {
            check(&file)
        } else {
            write(&file, arguments)
        };
        match done {
            Ok(done) => all.push(done),
            Err(error) => match error.downcast::<StoreError>() {
                Ok(error) => {
                    let error = SetError(vec![error]);
                    return Answer::refused(Code::Policy, &error, arguments.json);
                }
                Err(error) => return Err(error),
            },
        }
    }
    let right = all.iter().all(|done| done.differences.is_empty());
    let code = if right { Code::Ok } else { Code::Finding };
    if arguments.json {
        let policies: Vec<Value> = all.iter().map(object).collect();
        return Answer::json(code, &json!({ "ok": right, "policies": policies }));
    }
    let text = all.iter().map(|done| words(done, arguments.check));
    Ok(Answer::text(code, text.collect()))
}

fn check(file: &Path) -> anyhow::Result<Done> {
    let policy = store::read_file(file)?;
    let lock = store::read_lock(file)?;
    let mut differences = pinned::differences(&policy, lock.as_ref());
    if lock.is_none() && !policy.worker.command.is_empty() {
        differences.push(format!(
            "no lock file `{}`",
            store::lock_path(file).display()
        ));
    }
    Ok(Done {
        file: file.to_owned(),
        tool: policy.tool.to_string(),
        pins: lock.map(|lock| lock.pins).unwrap_or_default(),
        differences,
    })
}

fn write(file: &Path, arguments: &Arguments) -> anyhow::Result<Done> {
    let policy = store::read_without_lock(file)?;
    let mut done = Done {
        file: file.to_owned(),
        tool: policy.tool.to_string(),
        pins: Vec::new(),
        differences: Vec::new(),
    };
    let paths = match wanted(file, &policy, arguments)? {
        Ok(paths) => paths,
        Err(error) => {
            done.differences.push(error.to_string());
            return Ok(done);
        }
    };
    for (path, role) in paths {
        match pinned::pin(&path, role) {
            Ok(pin) => done.pins.push(Locked { pin, role }),
            Err(error) => done.differences.push(error.to_string()),
        }
    }
    if done.pins.is_empty() && done.differences.is_empty() {
        let message = "nothing to pin: the policy has no command that it does not pin itself, and \
                       no path was asked for";
        done.differences.push(message.to_owned());
    }
    // All or nothing: a lock file that lacks a path would let it change.
    if done.differences.is_empty() {
        let lock = Lock {
            tool: done.tool.clone(),
            pins: done.pins.clone(),
        };
        let path = store::lock_path(file);
        let name = file.file_name().unwrap_or(file.as_os_str());
        let text = lock.text(&name.to_string_lossy());
        Lock::parse(&text).context("the lock file that was to be written can not be read")?;
        replace(&path, &text).with_context(|| format!("lock `{}`", path.display()))?;
    }
    Ok(done)
}

/// Every path to pin with its role, but those that the policy pins itself.
fn wanted(
    file: &Path,
    policy: &CompiledPolicy,
    arguments: &Arguments,
) -> anyhow::Result<Result<BTreeMap<PathBuf, Role>, pinned::PinError>> {
    let mut paths = match pinned::of_command(policy) {
        Ok(paths) => paths,
        Err(error) => return Ok(Err(error)),
    };
    let kept = store::read_lock(file)?
        .into_iter()
        .flat_map(|lock| lock.pins);
    let kept = kept
        .filter(|locked| locked.role == Role::Asked)
        .map(|locked| locked.pin.path);
    for path in kept.chain(arguments.also.iter().cloned()) {
        if !arguments.forget.contains(&path) {
            paths.entry(path).or_insert(Role::Asked);
        }
    }
    paths.retain(|path, _| !policy.worker.pins.iter().any(|pin| pin.path == *path));
    Ok(Ok(paths))
}

/// Readers see the old file or the new one, never a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = || -> io::Result<()> {
        let mut file = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(LOCK_MODE)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    written().inspect_err(|_error| drop(fs::remove_file(&fresh)))
}

fn words(done: &Done, check: bool) -> String {
    let file = done.file.display();
    let (head, lines): (String, Vec<String>) = if done.differences.is_empty() {
        let right = paint(Colour::Green, if check { "as pinned" } else { "pinned" });
        let line = |Locked { pin, role }: &Locked| {
            let (sum, path) = (Digest(pin.sha256).to_string(), pin.path.display());
            format!("    {sum}  {:<11}  {path}\n", role.word())
        };
        (right, done.pins.iter().map(line).collect())
    } else {
        let wrong = paint(Colour::Red, if check { "differs" } else { "not pinned" });
        let line = |difference: &String| format!("    {difference}\n");
        (wrong, done.differences.iter().map(line).collect())
    };
    format!("{head}  {file}\n{}", lines.concat())
}

fn object(done: &Done) -> Value {
    json!({
        "file": done.file.display().to_string(),
        "tool": done.tool,
        "differences": done.differences,
        "pins": done.pins.iter().map(|Locked { pin, role }| json!({
            "path": pin.path,
            "kind": pin.kind.word(),
            "role": role.word(),
            "sha256": Digest(pin.sha256).to_string(),
        })).collect::<Vec<Value>>(),
    })
}
