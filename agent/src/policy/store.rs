//! Reads policy files: one, or a directory as a whole. The only I/O of `policy`.
//!
//! A directory gives a set or nothing: one bad file, two files of one tool, or more than the
//! kernel's tables hold, and the caller keeps what it had.

mod schema_file;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::OFlag;

use common::limits::{LIVE_RULES_MAX, NAMES_MAX, POLICIES_MAX, PREFIXES_MAX};
use sha2::{Digest as _, Sha256};

use super::{
    compile::{Compiled, compile_located},
    compiled::{CompiledPolicy, Digest, LockRule, ToolName},
    error::{Code, Findings, PolicyError},
    lock::{Lock, LockError},
    overlap::{Claims, overlaps},
};

/// Bytes of one policy file: 110,000 rules at 140 bytes, twice.
pub const POLICY_FILE_BYTES_MAX: u64 = 32 << 20;
/// Policies of one directory: slot 0 of the kernel's table is never used.
pub const POLICIES_PER_SET_MAX: usize = POLICIES_MAX as usize - 1;
/// How a policy file's name ends.
const EXTENSION: &str = "toml";
/// How the name of its lock file ends, in place of that.
const LOCK_EXTENSION: &str = "lock.toml";

/// The policies of a directory, by tool.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: BTreeMap<ToolName, Arc<CompiledPolicy>>,
    files: BTreeMap<ToolName, PathBuf>,
}

impl PolicySet {
    /// The policy of a tool.
    #[must_use]
    pub fn get(&self, tool: &ToolName) -> Option<&Arc<CompiledPolicy>> {
        self.policies.get(tool)
    }

    /// All policies, by tool.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CompiledPolicy>> {
        self.policies.values()
    }

    /// The file that a tool's policy was read from, where it was one.
    #[must_use]
    pub fn file(&self, tool: &ToolName) -> Option<&Path> {
        self.files.get(tool).map(PathBuf::as_path)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Digest of the set: equal sets have equal digests.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for policy in self.iter() {
            hash.update(policy.digest.0);
        }
        Digest(hash.finalize().into())
    }
}

impl FromIterator<Arc<CompiledPolicy>> for PolicySet {
    fn from_iter<I: IntoIterator<Item = Arc<CompiledPolicy>>>(policies: I) -> Self {
        Self {
            policies: policies
                .into_iter()
                .map(|policy| (policy.tool.clone(), policy))
                .collect(),
            files: BTreeMap::new(),
        }
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or directory can not be read.
    #[error("policy `{}`: can not be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too large.
    #[error("policy `{}`: more than {POLICY_FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// It is not a regular file.
    #[error("policy `{}`: not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It is not text.
    #[error("policy `{}`: not UTF-8 text, first at byte {at}", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
        /// Offset of the first other byte.
        at: usize,
    },
    /// It was refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Its lock file does not count.
    #[error("lock `{}`{}: {error}", path.display(), line(error))]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        error: LockError,
    },
    /// It wants a lock file and has none.
    #[error(
        "policy `{}`: `lock = \"required\"`, and there is no `{}`\nhint: `stockade policy pin {}`",
        path.display(), lock.display(), path.display()
    )]
    Unlocked {
        /// The policy file.
        path: PathBuf,
        /// The lock file that is missing.
        lock: PathBuf,
    },
    /// The set as a whole is more than the kernel's tables hold.
    #[error("policies of `{}`: {count} {what}, {max} is the most", path.display())]
    SetTooLarge {
        /// The directory.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

/// All that is wrong with a directory.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SetError(pub Vec<StoreError>);

fn line(error: &LockError) -> String {
    error
        .line
        .map_or_else(String::new, |line| format!(":{line}"))
}

/// Reads one policy file, and its lock file where there is one.
pub fn read_file(path: &Path) -> Result<CompiledPolicy, StoreError> {
    let mut policy = read_without_lock(path)?;
    lock(path, &mut policy)?;
    Ok(policy)
}

/// Reads one policy file as if it had no lock file: to write one.
pub fn read_without_lock(path: &Path) -> Result<CompiledPolicy, StoreError> {
    let text = text_of(path)?;
    let mut schemas = |name: &str| schema_file::read(path, name);
    Ok(super::compile_with(
        &path.display().to_string(),
        &text,
        &mut schemas,
    )?)
}

/// The bytes of a schema file that a person names, or why not.
pub fn read_schema(path: &Path) -> Result<Vec<u8>, String> {
    schema_file::read_alone(path)
}

/// Where the lock file of a policy file lies: `web.lock.toml` beside `web.toml`.
#[must_use]
pub fn lock_path(policy: &Path) -> PathBuf {
    policy.with_extension(LOCK_EXTENSION)
}

/// Files that a shell found for `*.toml`, without the lock files among them.
#[must_use]
pub fn without_locks(files: &[PathBuf]) -> Vec<PathBuf> {
    let policies = files.iter().filter(|file| !is_lock(file));
    policies.cloned().collect()
}

fn is_lock(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".lock.toml")
}

/// The lock file of a policy file, where there is one.
pub fn read_lock(policy: &Path) -> Result<Option<Lock>, StoreError> {
    let path = lock_path(policy);
    let text = match text_of(&path) {
        Ok(text) => text,
        Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match Lock::parse(&text) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) => Err(StoreError::Lock { path, error }),
    }
}

fn lock(path: &Path, policy: &mut CompiledPolicy) -> Result<(), StoreError> {
    match read_lock(path)? {
        Some(lock) => lock.apply(policy).map_err(|error| StoreError::Lock {
            path: lock_path(path),
            error,
        }),
        None if policy.worker.lock == LockRule::Required => Err(StoreError::Unlocked {
            path: path.to_owned(),
            lock: lock_path(path),
        }),
        None => Ok(()),
    }
}

/// Reads a directory, all of it or nothing.
pub fn read_directory(path: &Path) -> Result<PolicySet, SetError> {
    let files = list(path).map_err(|error| SetError(vec![error]))?;
    read_files(path, &files)
}

/// Reads several files as one set, or nothing. `path` names the set in messages.
pub fn read_files(path: &Path, files: &[PathBuf]) -> Result<PolicySet, SetError> {
    let mut errors = Vec::new();
    let mut set = PolicySet::default();
    let mut origin: BTreeMap<ToolName, String> = BTreeMap::new();
    let mut claims = Vec::new();
    for file in files {
        match read_one(file, &mut origin, &mut claims) {
            Ok(policy) => {
                set.files.insert(policy.tool.clone(), file.clone());
                set.policies.insert(policy.tool.clone(), Arc::new(policy));
            }
            Err(error) => errors.push(error),
        }
    }
    errors.extend(overlaps(&claims).into_iter().map(StoreError::Policy));
    errors.extend(too_large(path, &set));
    if errors.is_empty() {
        Ok(set)
    } else {
        Err(SetError(errors))
    }
}

fn read_one(
    path: &Path,
    origin: &mut BTreeMap<ToolName, String>,
    claims: &mut Vec<Claims>,
) -> Result<CompiledPolicy, StoreError> {
    let text = text_of(path)?;
    let name = path.display().to_string();
    let Compiled {
        mut policy,
        tool_span,
        claims: own,
    } = compile_located(&name, &text, &mut |name| schema_file::read(path, name))?;
    if let Some(other) = origin.get(&policy.tool) {
        let mut findings = Findings::default();
        let message = format!("tool `{}` has a policy already", policy.tool);
        let hint = format!("`{other}` names it too: rename or drop one");
        findings.hinted(Code::Duplicate, tool_span, message, hint);
        findings.finish(&name, &text, None::<()>)?;
    }
    lock(path, &mut policy)?;
    origin.insert(policy.tool.clone(), name.clone());
    if !own.is_empty() {
        claims.push(Claims {
            file: name,
            text,
            tool: policy.tool.to_string(),
            paths: own,
        });
    }
    Ok(policy)
}

/// A push holds two generations of every policy in the kernel's tables.
fn too_large(path: &Path, set: &PolicySet) -> Option<StoreError> {
    let rules = set.iter().map(|policy| policy.egress.rules.len()).sum();
    let prefixes = set.iter().map(|policy| policy.egress.table.len()).sum();
    let names = set
        .iter()
        .map(|policy| policy.egress.names.entries().len())
        .sum();
    let half = |max: u32| usize::try_from(max / 2).unwrap_or(usize::MAX);
    let error = |what, count, max| StoreError::SetTooLarge {
        path: path.to_owned(),
        what,
        count,
        max,
    };
    [
        ("policies", set.len(), POLICIES_PER_SET_MAX),
        ("rules", rules, half(LIVE_RULES_MAX)),
        ("prefixes", prefixes, half(PREFIXES_MAX)),
        ("names", names, half(NAMES_MAX)),
    ]
    .into_iter()
    .find(|(_, count, max)| count > max)
    .map(|(what, count, max)| error(what, count, max))
}

/// The policy files of a directory: every `*.toml` whose name does not begin with a dot, but lock
/// files.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = |source| StoreError::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        let hidden = file
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && !is_lock(&file) && file.extension().is_some_and(|ending| ending == EXTENSION)
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn text_of(path: &Path) -> Result<String, StoreError> {
    let read = |source| StoreError::Read {
        path: path.to_owned(),
        source,
    };
    // A FIFO or a device would hang or never end; opening a FIFO waits for its writer already.
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(read)?;
    if !file.metadata().map_err(read)?.is_file() {
        return Err(StoreError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    let limit = POLICY_FILE_BYTES_MAX.saturating_add(1);
    let count = file.take(limit).read_to_end(&mut bytes).map_err(read)?;
    if u64::try_from(count).unwrap_or(u64::MAX) > POLICY_FILE_BYTES_MAX {
        return Err(StoreError::TooLarge {
            path: path.to_owned(),
        });
    }
    String::from_utf8(bytes).map_err(|error| StoreError::NotText {
        path: path.to_owned(),
        at: error.utf8_error().valid_up_to(),
    })
}
