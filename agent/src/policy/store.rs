//! Reads policy files: one, or a directory as a whole. The only I/O of `policy`.
//!
//! A directory gives a set or nothing: one bad file, two files of one tool, or more than the
//! kernel's tables hold, and the caller keeps what it had.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::limits::{LIVE_RULES_MAX, NAMES_MAX, POLICIES_MAX, PREFIXES_MAX};
use sha2::{Digest as _, Sha256};

use super::{
    compile::{Compiled, compile_located},
    compiled::{CompiledPolicy, Digest, ToolName},
    error::{Code, Findings, PolicyError},
};

/// Bytes of one policy file: 110,000 rules at 140 bytes, twice.
pub const POLICY_FILE_BYTES_MAX: u64 = 32 << 20;
/// Policies of one directory: slot 0 of the kernel's table is never used.
pub const POLICIES_PER_SET_MAX: usize = POLICIES_MAX as usize - 1;
/// How a policy file's name ends.
const EXTENSION: &str = "toml";

/// The policies of a directory, by tool.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: BTreeMap<ToolName, Arc<CompiledPolicy>>,
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

/// Reads one policy file.
pub fn read_file(path: &Path) -> Result<CompiledPolicy, StoreError> {
    let text = text_of(path)?;
    Ok(super::compile(&path.display().to_string(), &text)?)
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
    for file in files {
        match read_one(file, &mut origin) {
            Ok(policy) => {
                set.policies.insert(policy.tool.clone(), Arc::new(policy));
            }
            Err(error) => errors.push(error),
        }
    }
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
) -> Result<CompiledPolicy, StoreError> {
    let text = text_of(path)?;
    let name = path.display().to_string();
    let Compiled { policy, tool_span } = compile_located(&name, &text)?;
    if let Some(other) = origin.get(&policy.tool) {
        let mut findings = Findings::default();
        let message = format!("tool `{}` has a policy already", policy.tool);
        let hint = format!("`{other}` names it too: rename or drop one");
        findings.hinted(Code::Duplicate, tool_span, message, hint);
        findings.finish(&name, &text, None::<()>)?;
    }
    origin.insert(policy.tool.clone(), name);
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

/// The policy files of a directory: every `*.toml` whose name does not begin with a dot.
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
        if !hidden && file.extension().is_some_and(|ending| ending == EXTENSION) {
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
    let file = File::open(path).map_err(read)?;
    // A FIFO or a device would hang or never end.
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
