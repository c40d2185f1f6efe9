//! Reads policy files: one, or a directory as a whole. The only I/O of `policy`.
//!
//! A directory gives a set or nothing: one bad file, two files of one tool, or more than the
//! kernel's tables hold, and the caller keeps what it had.

mod error;
mod reader;
mod schema_file;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::limits::{LIVE_RULES_MAX, NAMES_MAX, POLICIES_MAX, PREFIXES_MAX};
use sha2::{Digest as _, Sha256};

pub use self::error::{SetError, StoreError};
use self::reader::{Place, Read, Reader};
use super::{
    bundle::Bundle,
    compile::{Compiled, compile_located},
    compiled::{CompiledPolicy, Digest, LockRule, ToolName},
    error::{Code, Findings},
    lock::Lock,
    overlap::{Claims, overlaps, shared_units},
};
use crate::ownership;

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

/// Reads one policy file, and its lock file where there is one.
pub fn read_file(path: &Path) -> Result<CompiledPolicy, StoreError> {
    let mut reader = Reader::new(Place::Disk);
    let mut policy = compiled(path, &mut reader)?;
    lock(path, &mut policy, &mut reader)?;
    Ok(policy)
}

/// Reads one policy file as if it had no lock file: to write one.
pub fn read_without_lock(path: &Path) -> Result<CompiledPolicy, StoreError> {
    compiled(path, &mut Reader::new(Place::Disk))
}

fn compiled(path: &Path, reader: &mut Reader<'_>) -> Result<CompiledPolicy, StoreError> {
    let text = reader.policy(path)?;
    let mut schemas = |name: &str| reader.schema(path, name);
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
    Reader::new(Place::Disk).lock(policy)
}

fn lock(
    path: &Path,
    policy: &mut CompiledPolicy,
    reader: &mut Reader<'_>,
) -> Result<(), StoreError> {
    match reader.lock(path)? {
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

/// A set and the files that it was compiled from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What they compile to.
    pub set: PolicySet,
    /// Every file that was read, byte for byte.
    pub files: Bundle,
    /// The locks and schemas that each policy file needs.
    pub needs: BTreeMap<String, BTreeSet<String>>,
}

/// Reads a directory as the agent does: only files that nobody but root and the agent could have
/// written, and with the bytes that were compiled.
pub fn read_trusted(path: &Path) -> Result<Sources, SetError> {
    let one = |error| SetError(vec![error]);
    // One that is not there is told as such, below.
    if path.is_dir() {
        ownership::folder(path).map_err(|error| one(StoreError::Distrusted(error)))?;
    }
    let files = list(path).map_err(one)?;
    read_as(path, &files, Place::Trusted)
}

/// Reads several files as one set, with the bytes that were compiled.
pub fn collect(path: &Path, files: &[PathBuf]) -> Result<Sources, SetError> {
    read_as(path, files, Place::Disk)
}

/// Compiles a set of files that is held. Files that no policy names are left out.
pub fn compile_held(path: &Path, held: &Bundle) -> Result<Sources, SetError> {
    let files: Vec<PathBuf> = held.policies().map(PathBuf::from).collect();
    read_as(path, &files, Place::Held(held))
}

/// Reads a directory, all of it or nothing.
pub fn read_directory(path: &Path) -> Result<PolicySet, SetError> {
    let files = list(path).map_err(|error| SetError(vec![error]))?;
    read_files(path, &files)
}

/// Reads several files as one set, or nothing. `path` names the set in messages.
pub fn read_files(path: &Path, files: &[PathBuf]) -> Result<PolicySet, SetError> {
    read_as(path, files, Place::Disk).map(|sources| sources.set)
}

fn read_as(path: &Path, files: &[PathBuf], place: Place<'_>) -> Result<Sources, SetError> {
    let mut reader = Reader::new(place);
    let mut errors = Vec::new();
    let mut set = PolicySet::default();
    let mut origin: BTreeMap<ToolName, String> = BTreeMap::new();
    let mut claims = Vec::new();
    for file in files {
        match read_one(file, &mut origin, &mut claims, &mut reader) {
            Ok(policy) => {
                set.files.insert(policy.tool.clone(), file.clone());
                set.policies.insert(policy.tool.clone(), Arc::new(policy));
            }
            Err(error) => errors.push(error),
        }
    }
    errors.extend(overlaps(&claims).into_iter().map(StoreError::Policy));
    errors.extend(shared_units(&claims).into_iter().map(StoreError::Policy));
    errors.extend(too_large(path, &set));
    let Read { files, needs } = reader.into_read();
    if errors.is_empty() {
        Ok(Sources { set, files, needs })
    } else {
        Err(SetError(errors))
    }
}

fn read_one(
    path: &Path,
    origin: &mut BTreeMap<ToolName, String>,
    claims: &mut Vec<Claims>,
    reader: &mut Reader<'_>,
) -> Result<CompiledPolicy, StoreError> {
    let text = reader.policy(path)?;
    let name = path.display().to_string();
    let Compiled {
        mut policy,
        tool_span,
        claims: own,
        units,
    } = compile_located(&name, &text, &mut |name| reader.schema(path, name))?;
    if let Some(other) = origin.get(&policy.tool) {
        let mut findings = Findings::default();
        let message = format!("tool `{}` has a policy already", policy.tool);
        let hint = format!("`{other}` names it too: rename or drop one");
        findings.hinted(Code::Duplicate, tool_span, message, hint);
        findings.finish(&name, &text, None::<()>)?;
    }
    lock(path, &mut policy, reader)?;
    origin.insert(policy.tool.clone(), name.clone());
    if !own.is_empty() || !units.is_empty() {
        claims.push(Claims {
            file: name,
            text,
            tool: policy.tool.to_string(),
            paths: own,
            units,
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
