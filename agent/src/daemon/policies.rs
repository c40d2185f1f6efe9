//! The policies in force. A folder that does not compile as a whole changes nothing: the last good
//! set stays, and the error is kept for `status`.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use common::{
    decide::Mode,
    id::{Generation, PolicyId},
    limits::POLICIES_MAX,
};

use super::{error::told, setup::PolicySource};
use crate::{
    exit::Code,
    kernel::{self, Kernel, PolicyInForce, Synced},
    observe::{event::Names, metrics::Applied},
    policy::{self, compiled::CompiledPolicy},
};

const SLOTS_FILE: &str = "slots.json";

/// Where policies come from, and which are in force.
pub(super) struct Policies {
    source: PolicySource,
    slots: Mutex<Slots>,
    current: ArcSwap<Set>,
    last_error: Mutex<Option<String>>,
}

/// The policies in force at one moment.
#[derive(Default)]
pub(super) struct Set {
    pub(super) by_tool: BTreeMap<String, Loaded>,
    by_id: HashMap<PolicyId, Loaded>,
    pub(super) names: Names,
    pub(super) applied: Applied,
}

/// A policy in force.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) id: PolicyId,
    pub(super) policy: Arc<CompiledPolicy>,
    pub(super) generation: Generation,
}

/// Which slot of the kernel's table a tool has. A slot is kept as long as the pins live (until a
/// reboot), so that the counters of a tool stay its own over restarts of the agent.
#[derive(Debug)]
struct Slots {
    file: Option<PathBuf>,
    by_tool: BTreeMap<String, u32>,
}

/// The policies can not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The folder does not compile.
    #[error(transparent)]
    Store(#[from] policy::store::SetError),
    /// The kernel side does not take them.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// There are more tools than slots.
    #[error("policies: more than {} tools since the last reboot", POLICIES_MAX - 1)]
    Slots,
    /// The task that read them ended early.
    #[error("policies: reading them was interrupted")]
    Interrupted,
    /// The slots can not be kept.
    #[error("policy slots `{}`: can not be kept", path.display())]
    SlotsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ReloadError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Store(_) | Self::Slots => Code::Policy,
            Self::Kernel(_) => Code::Unavailable,
            Self::Interrupted => Code::Software,
            Self::SlotsFile { .. } => Code::CanNotCreate,
        }
    }
}

impl Policies {
    /// Reads the source and puts it in force for the first time.
    pub(super) fn first(
        source: PolicySource,
        run_folder: &Path,
        kernel: &Kernel,
    ) -> Result<(Self, Synced), ReloadError> {
        let slots = Slots::read(&source, run_folder)?;
        let policies = Self {
            source,
            slots: Mutex::new(slots),
            current: ArcSwap::default(),
            last_error: Mutex::new(None),
        };
        let synced = policies.apply(kernel)?;
        Ok((policies, synced))
    }

    /// Reads the source again. On an error everything stays, and the error is kept.
    pub(super) fn reload(&self, kernel: &Kernel) -> Result<usize, ReloadError> {
        let applied = self.apply(kernel);
        *lock(&self.last_error) = applied.as_ref().err().map(|error| told(error));
        let _synced: Synced = applied?;
        Ok(self.current.load().by_tool.len())
    }

    /// The policies in force.
    pub(super) fn current(&self) -> Arc<Set> {
        self.current.load_full()
    }

    /// Why the source as it was last read is not in force.
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// Where they come from, for people.
    pub(super) fn place(&self) -> String {
        match &self.source {
            PolicySource::Folder(folder) => folder.display().to_string(),
            PolicySource::One(policy) => format!("one policy for `{}`", policy.tool),
        }
    }

    fn apply(&self, kernel: &Kernel) -> Result<Synced, ReloadError> {
        // Held until the new set is the current one: two reloads never interleave.
        let mut slots = lock(&self.slots);
        let compiled: Vec<Arc<CompiledPolicy>> = match &self.source {
            PolicySource::Folder(folder) => {
                let set = policy::store::read_directory(folder)?;
                set.iter().map(Arc::clone).collect()
            }
            PolicySource::One(policy) => vec![Arc::clone(policy)],
        };
        let mut wanted = Vec::with_capacity(compiled.len());
        for policy in compiled {
            let id = slots.of(policy.tool.as_str())?;
            wanted.push(PolicyInForce { id, policy });
        }
        slots.keep()?;
        let synced = kernel.sync(&wanted)?;
        for wanted in &wanted {
            tell_quarantine(&wanted.policy);
        }
        self.current.store(Arc::new(Set::new(wanted, &synced)));
        Ok(synced)
    }
}

/// Verbs whose schema can not be applied: the policy is in force, and each call of them is refused.
fn tell_quarantine(policy: &CompiledPolicy) {
    for verb in &policy.verbs {
        if let Some(why) = &verb.quarantine {
            let (tool, verb) = (policy.tool.as_str(), verb.name.as_str());
            tracing::warn!(
                policy.tool = tool,
                policy.verb = verb,
                why,
                "verb in quarantine"
            );
        }
    }
}

impl Set {
    fn new(policies: Vec<PolicyInForce>, synced: &Synced) -> Self {
        let names = Names::new(policies.iter().map(|p| (p.id, &p.policy)));
        let loaded: Vec<_> = policies
            .into_iter()
            .map(|PolicyInForce { id, policy }| Loaded {
                id,
                policy,
                generation: synced.generation(id).unwrap_or_default(),
            })
            .collect();
        let by_id = loaded.iter().map(|loaded| (loaded.id, loaded.clone()));
        let by_tool = loaded.iter().map(|loaded| {
            let tool = loaded.policy.tool.to_string();
            (tool, loaded.clone())
        });
        Self {
            by_tool: by_tool.collect(),
            by_id: by_id.collect(),
            names,
            applied: Applied {
                publish: synced.publish_duration(),
                flip: synced.flip_duration(),
            },
        }
    }

    /// The policy with this number.
    pub(super) fn policy(&self, id: PolicyId) -> Option<&Loaded> {
        self.by_id.get(&id)
    }

    /// Whether a tool only observes.
    pub(super) fn observes(&self, tool: &str) -> bool {
        let loaded = self.by_tool.get(tool);
        loaded.is_some_and(|loaded| loaded.policy.mode == Mode::Observe)
    }

    /// The tool whose name is nearest to a wrong one.
    pub(super) fn near(&self, tool: &str) -> Option<String> {
        const NEAR_ENOUGH: f64 = 0.8;
        let names = self.by_tool.keys();
        let rated = names.map(|name| (strsim::jaro_winkler(name, tool), name));
        let (rate, name) = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        (rate >= NEAR_ENOUGH).then(|| name.clone())
    }
}

impl Slots {
    fn read(source: &PolicySource, run_folder: &Path) -> Result<Self, ReloadError> {
        let path = match source {
            PolicySource::Folder(_) => run_folder.join(SLOTS_FILE),
            // Nothing outlives a stand-alone run.
            PolicySource::One(_) => {
                return Ok(Self {
                    file: None,
                    by_tool: BTreeMap::new(),
                });
            }
        };
        let by_tool = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| ReloadError::SlotsFile {
                    path: path.clone(),
                    source: error.into(),
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(ReloadError::SlotsFile { path, source }),
        };
        Ok(Self {
            file: Some(path),
            by_tool,
        })
    }

    fn of(&mut self, tool: &str) -> Result<PolicyId, ReloadError> {
        if let Some(slot) = self.by_tool.get(tool) {
            return Ok(PolicyId(*slot));
        }
        // Slot 0 is never used: a zeroed word means "no policy".
        let last = self.by_tool.values().copied().max().unwrap_or(0);
        let slot = last.saturating_add(1);
        if slot >= POLICIES_MAX {
            return Err(ReloadError::Slots);
        }
        self.by_tool.insert(tool.to_owned(), slot);
        Ok(PolicyId(slot))
    }

    /// Written before the kernel sees a new slot, and whole or not at all.
    fn keep(&self) -> Result<(), ReloadError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let failed = |source| ReloadError::SlotsFile {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&self.by_tool).map_err(|error| failed(error.into()))?;
        let new = path.with_extension("new");
        fs::write(&new, bytes).map_err(failed)?;
        fs::rename(&new, path).map_err(failed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves a whole value at every point where it could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
