//! Changes that somebody asks for: policies pushed, tools removed, an older set put back. The whole set
//! that would come of it is compiled first; then it is kept, written into the folder, recorded, and put
//! in force, and where any of that fails everything is as it was.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::id::PolicyId;

use super::{
    By, Policies, ReloadError, State, change_of,
    folder::{self, FolderError, Staged},
    history::{Entry, History, HistoryError, Note, Origin},
    lock,
    set::{Files, Set},
};
use crate::{
    audit::{self, Caller, Journal},
    daemon::{
        error::{chain, told},
        setup::PolicySource,
    },
    exit::Code,
    kernel::{self, Kernel},
    ownership::{self, Distrust},
    policy::{
        bundle::{Bundle, BundleError, is_of_host},
        compiled::CompiledPolicy,
        merge::{self, MergeError},
        store::{self, SetError, Sources},
    },
};

/// What is asked for.
#[derive(Clone, Debug)]
pub enum ChangeOrder {
    /// These policies in the place of those of their tools, or of all policies.
    Push {
        /// The files.
        files: Bundle,
        /// Whether they are the whole set.
        replace: bool,
    },
    /// No policies of these tools any more.
    Remove {
        /// The tools.
        tools: Vec<String>,
    },
    /// A set that was in force.
    Rollback {
        /// How its digest begins; the one before the one in force where nothing is said.
        digest: Option<String>,
    },
}

/// A change was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// Digest of the set that was in force.
    pub before: String,
    /// Digest of the set that is.
    pub after: String,
    /// Its tools.
    pub tools: usize,
    /// Its rules.
    pub rules: usize,
}

/// What a change would be.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The files in force.
    pub old: Bundle,
    /// The files that would be.
    pub new: Bundle,
    /// The policies that would be in force, of tools that have a slot.
    pub(in crate::daemon) wanted: BTreeMap<PolicyId, Arc<CompiledPolicy>>,
}

/// A change was not made; everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The set that would be does not compile.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The files can not be put together.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// They are no set of files.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The folder holds something else than what is in force.
    #[error(
        "policy folder `{}`: it is not what is in force\nhint: `stockade reload` takes what it holds; `policy push --replace` and `policy rollback` write it anew",
        .0.display()
    )]
    Stale(PathBuf),
    /// Others could write what would be put there.
    #[error("policy folder {0}")]
    Distrusted(#[from] Distrust),
    /// The folder can not be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The set can not be kept or found.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A schema outside the folder is not what it was.
    #[error(
        "policy set {0}: a schema that it names by an absolute path is not what it was\nhint: put that file back first"
    )]
    HostSchema(String),
    /// Nothing is kept here.
    #[error("policies: this agent keeps no history\nhint: its log says why")]
    NoHistory,
    /// It can not be recorded.
    #[error("policies: not changed without a record")]
    Journal(#[from] audit::Error),
    /// It can not be put in force.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// The kernel side does not tell what is open.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The task ended early.
    #[error("policies: the change was interrupted")]
    Interrupted,
}

impl ChangeError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Set(_) | Self::Merge(_) | Self::HostSchema(_) => Code::Policy,
            Self::Bundle(_)
            | Self::History(
                HistoryError::Unknown(_) | HistoryError::Ambiguous(_) | HistoryError::NoOlder,
            ) => Code::Usage,
            Self::Stale(_) => Code::TryAgain,
            Self::Distrusted(_) => Code::NoPermission,
            Self::Folder(_) | Self::History(_) | Self::Journal(_) => Code::CanNotCreate,
            Self::NoHistory | Self::Kernel(_) => Code::Unavailable,
            Self::Reload(error) => error.code(),
            Self::Interrupted => Code::Software,
        }
    }
}

impl ChangeOrder {
    /// What brings the set.
    pub(in crate::daemon) fn origin(&self) -> Origin {
        match self {
            Self::Push { .. } => Origin::Push,
            Self::Remove { .. } => Origin::Remove,
            Self::Rollback { .. } => Origin::Rollback,
        }
    }

    /// Whether the set that is in force matters for the one that is to be.
    fn builds_on_what_is(&self) -> bool {
        match self {
            Self::Push { replace, .. } => !replace,
            Self::Remove { .. } => true,
            Self::Rollback { .. } => false,
        }
    }
}

/// What is to be, and what is.
struct Prepared {
    old: Bundle,
    new: Sources,
}

impl Policies {
    /// Makes a change.
    pub(in crate::daemon) fn change(
        &self,
        kernel: &Kernel,
        journal: &Journal,
        order: &ChangeOrder,
        caller: Caller,
    ) -> Result<Changed, ChangeError> {
        let place = self.folder()?;
        let mut state = lock(&self.state);
        let Prepared { old, new } = self.prepare(&state, place, order)?;
        ownership::folder(place)?;
        let current = self.current();
        let by = By {
            origin: order.origin(),
            caller: Some(caller),
        };
        let files = Files::new(&new, by);
        let before = current
            .files
            .as_ref()
            .map(|files| files.entry.digest.clone());
        let changed = Changed {
            before: before.clone().unwrap_or_default(),
            after: files.entry.digest.clone(),
            tools: files.entry.tools,
            rules: files.entry.rules,
        };
        let is_in_force = before.as_ref() == Some(&changed.after) && !self.is_last_good();
        if is_in_force && folder::holds(place, &new.files) {
            return Ok(changed);
        }
        let history = state.history.as_mut().ok_or(ChangeError::NoHistory)?;
        history.put(&new.files, &new.files.digest())?;
        let mut staged = folder::stage(place, &new.files, &old)?;
        let note = Note {
            folder: place.to_owned(),
            entry: files.entry.clone(),
            before: before.clone(),
        };
        history.begin(&note)?;
        let recorded = journal.policies(&change_of(&files, before.as_ref()));
        let done = recorded
            .map_err(ChangeError::from)
            .and_then(|()| Ok(staged.exchange()?))
            .and_then(|()| Ok(self.apply(&mut state, kernel, &new.set, Some(files))?));
        match done {
            Ok(_synced) => {
                self.finish(&mut state, staged, note.entry);
                Ok(changed)
            }
            Err(error) => {
                self.take_back(&state, journal, staged, before.as_deref(), &error);
                Err(error)
            }
        }
    }

    /// What a change would be; nothing is changed.
    pub(in crate::daemon) fn preview(&self, order: &ChangeOrder) -> Result<Preview, ChangeError> {
        let place = self.folder()?;
        let state = lock(&self.state);
        let Prepared { old, new } = self.prepare(&state, place, order)?;
        let wanted = new.set.iter().filter_map(|policy| {
            let id = state.slots.known(policy.tool.as_str())?;
            Some((id, Arc::clone(policy)))
        });
        Ok(Preview {
            wanted: wanted.collect(),
            old,
            new: new.files,
        })
    }

    /// The sets that were in force, oldest first.
    pub(in crate::daemon) fn history(&self) -> Vec<Entry> {
        let state = lock(&self.state);
        let history = state.history.as_ref();
        history.map_or_else(Vec::new, |history| history.entries().to_vec())
    }

    fn folder(&self) -> Result<&Path, ChangeError> {
        match &self.source {
            PolicySource::Folder(folder) => Ok(folder),
            PolicySource::One(_) => Err(ChangeError::NoHistory),
        }
    }

    fn prepare(
        &self,
        state: &State,
        place: &Path,
        order: &ChangeOrder,
    ) -> Result<Prepared, ChangeError> {
        let current = self.current();
        let base = base(state, place, &current);
        if order.builds_on_what_is() {
            let is_there = base.as_ref().is_some_and(|base| folder::holds(place, base));
            if !is_there || self.is_last_good() {
                return Err(ChangeError::Stale(place.to_owned()));
            }
        }
        let old = base.unwrap_or_default();
        let by_tool = current.files.as_ref().map(|files| &files.by_tool);
        let none = BTreeMap::new();
        let by_tool = by_tool.unwrap_or(&none);
        let new = match order {
            ChangeOrder::Push { files, replace } => {
                let (base, by_tool) = if *replace {
                    (Bundle::default(), &none)
                } else {
                    (of_folder(&old), by_tool)
                };
                let (merged, placed) = merge::push(&base, by_tool, &of_folder(files))?;
                let new = store::compile_held(place, &merged)?;
                merge::unshared(&base, &new, &placed)?;
                new
            }
            ChangeOrder::Remove { tools } => {
                let left = merge::remove(&of_folder(&old), by_tool, tools)?;
                store::compile_held(place, &left)?
            }
            ChangeOrder::Rollback { digest } => {
                let history = state.history.as_ref().ok_or(ChangeError::NoHistory)?;
                let in_force = current
                    .files
                    .as_ref()
                    .map(|files| files.entry.digest.as_str());
                let digest = match digest {
                    Some(beginning) => history.find(beginning)?,
                    None => history.older(in_force.unwrap_or_default())?,
                };
                let kept = history.get(&digest)?;
                let new = store::compile_held(place, &of_folder(&kept))?;
                if new.files.digest().to_string() != digest {
                    return Err(ChangeError::HostSchema(digest));
                }
                new
            }
        };
        Ok(Prepared { old, new })
    }

    /// The change is in force and in the folder: from here on nothing is taken back.
    fn finish(&self, state: &mut State, staged: Staged, entry: Entry) {
        staged.keep();
        let finished = state.history.as_mut().map(|history| history.finish(entry));
        if let Some(Err(error)) = finished {
            self.not_kept(&error);
            return;
        }
        *lock(&self.last_error) = None;
        *lock(&self.unkept) = None;
    }

    fn take_back(
        &self,
        state: &State,
        journal: &Journal,
        staged: Staged,
        before: Option<&str>,
        error: &ChangeError,
    ) {
        staged.take_back();
        if let Some(Err(error)) = state.history.as_ref().map(History::abandon) {
            self.not_kept(&error);
        }
        if let Err(error) = journal.policies_kept(before, &told(error)) {
            tracing::error!(
                error = chain(&error),
                "change of policies taken back without a record"
            );
        }
    }
}

/// The files in force: as they were kept, or as the folder still has them.
fn base(state: &State, place: &Path, current: &Set) -> Option<Bundle> {
    let digest = &current.files.as_ref()?.entry.digest;
    let kept = state.history.as_ref().map(|history| history.get(digest));
    if let Some(Ok(kept)) = kept {
        return Some(kept);
    }
    let sources = store::read_trusted(place).ok()?;
    (sources.files.digest().to_string() == *digest).then_some(sources.files)
}

/// Without what lies outside the policy folder: that is read from where it lies.
fn of_folder(files: &Bundle) -> Bundle {
    let mut files = files.clone();
    files.retain(|name| !is_of_host(name));
    files
}
