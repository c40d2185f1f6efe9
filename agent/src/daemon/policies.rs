//! The policies in force. A folder that does not compile as a whole changes nothing: the last good
//! set stays, over a restart too, and the error is kept for `status`.

mod change;
mod disk;
mod folder;
mod history;
mod set;
mod slots;
mod start;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use common::limits::POLICIES_MAX;

use self::set::Files;
pub(super) use self::set::{Loaded, Set};
pub use self::{
    change::{ChangeError, ChangeOrder, Changed, Preview},
    folder::FolderError,
    history::{Entry, HistoryError, Origin},
};
use self::{history::History, slots::Slots};
use super::{
    error::{chain, told},
    setup::PolicySource,
};
use crate::{
    audit::{Caller, Journal, PolicyChange},
    exit::Code,
    kernel::{self, Kernel, PolicyInForce, Synced},
    policy::{
        self,
        compiled::CompiledPolicy,
        store::{PolicySet, Sources},
    },
};

/// Where policies come from, and which are in force.
pub(super) struct Policies {
    source: PolicySource,
    /// Held until a new set is the current one: two changes never interleave.
    state: Mutex<State>,
    current: ArcSwap<Set>,
    last_error: Mutex<Option<String>>,
    /// Why the set in force would not be there after a restart.
    unkept: Mutex<Option<String>>,
}

struct State {
    slots: Slots,
    /// None for a stand-alone run, and where it can not be opened.
    history: Option<History>,
}

/// Where the sets that were in force are kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The folder.
    pub folder: PathBuf,
    /// How many.
    pub sets: usize,
}

/// Who and what brings a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    pub(super) origin: Origin,
    pub(super) caller: Option<Caller>,
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
    /// A change that was cut short can not be finished.
    #[error("policies: a change that was cut short can not be finished")]
    Cut(#[source] Box<ChangeError>),
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
            Self::SlotsFile { .. } | Self::Cut(_) => Code::CanNotCreate,
        }
    }
}

impl Policies {
    /// Reads the source again. On an error everything stays, and the error is kept.
    pub(super) fn reload(
        &self,
        kernel: &Kernel,
        journal: &Journal,
        caller: Option<Caller>,
    ) -> Result<usize, ReloadError> {
        let mut state = lock(&self.state);
        let by = By {
            origin: Origin::Reload,
            caller,
        };
        // The folder counts only when no change of it is half done.
        let applied = self
            .finish_begun(&mut state)
            .and_then(|()| self.read_and_apply(&mut state, kernel, journal, by));
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

    /// Why the set in force would not be there after a restart with a bad folder.
    pub(super) fn unkept(&self) -> Option<String> {
        lock(&self.unkept).clone()
    }

    /// Whether a bad folder was found at the start and nothing else was put in force since.
    pub(super) fn is_last_good(&self) -> bool {
        let set = self.current.load();
        let origin = set.files.as_ref().map(|files| files.entry.origin);
        origin == Some(Origin::LastGood)
    }

    /// Where they come from.
    pub(super) fn source(&self) -> &PolicySource {
        &self.source
    }

    /// Where they come from, for people.
    pub(super) fn place(&self) -> String {
        match &self.source {
            PolicySource::Folder(folder) => folder.display().to_string(),
            PolicySource::One(policy) => format!("one policy for `{}`", policy.tool),
        }
    }

    fn read_and_apply(
        &self,
        state: &mut State,
        kernel: &Kernel,
        journal: &Journal,
        by: By,
    ) -> Result<Synced, ReloadError> {
        match &self.source {
            PolicySource::Folder(folder) => {
                let sources = policy::store::read_trusted(folder)?;
                let files = Files::new(&sources, by);
                self.tell(journal, &files, state.history.as_ref());
                let synced = self.apply(state, kernel, &sources.set, Some(files.clone()))?;
                self.keep(state, &sources, files.entry);
                Ok(synced)
            }
            PolicySource::One(policy) => {
                let set = PolicySet::from_iter([Arc::clone(policy)]);
                self.apply(state, kernel, &set, None)
            }
        }
    }

    /// Brings a set into the kernel, then makes it the current one.
    fn apply(
        &self,
        state: &mut State,
        kernel: &Kernel,
        set: &PolicySet,
        files: Option<Files>,
    ) -> Result<Synced, ReloadError> {
        let wanted = state.wanted(set)?;
        let synced = kernel.sync(&wanted)?;
        for wanted in &wanted {
            tell_quarantine(&wanted.policy);
        }
        self.current
            .store(Arc::new(Set::new(wanted, &synced, files)));
        Ok(synced)
    }

    /// Records another set before it is in force. A reload is not refused where that fails: it may
    /// take away what must go at once, and the journal says itself that it is not whole.
    fn tell(&self, journal: &Journal, files: &Files, history: Option<&History>) {
        let current = self.current.load();
        let before = current.files.as_ref().map(|files| &files.entry.digest);
        let last = history.and_then(|history| history.entries().last());
        let before = before.or(last.map(|entry| &entry.digest));
        let is_new = current.files.is_none() || before != Some(&files.entry.digest);
        if is_new
            && history.is_some()
            && let Err(error) = journal.policies(&change_of(files, before))
        {
            tracing::error!(error = chain(&error), "change of policies not recorded");
        }
    }

    /// Keeps the set in force. Where that fails it is in force all the same, and the failure is told.
    fn keep(&self, state: &mut State, sources: &Sources, entry: Entry) {
        let Some(history) = &mut state.history else {
            return;
        };
        let kept = history.put(&sources.files, &sources.files.digest());
        let last = history.entries().last().map(|last| &last.digest);
        let kept = match kept {
            Ok(()) if last != Some(&entry.digest) => history.note(entry),
            other => other,
        };
        match kept {
            Ok(()) => *lock(&self.unkept) = None,
            Err(error) => self.not_kept(&error),
        }
    }

    fn not_kept(&self, error: &HistoryError) {
        tracing::error!(error = chain(error), "policy set not kept");
        *lock(&self.unkept) = Some(chain(error));
    }
}

impl State {
    fn wanted(&mut self, set: &PolicySet) -> Result<Vec<PolicyInForce>, ReloadError> {
        let mut wanted = Vec::with_capacity(set.len());
        for policy in set.iter() {
            let id = self.slots.of(policy.tool.as_str())?;
            let policy = Arc::clone(policy);
            wanted.push(PolicyInForce { id, policy });
        }
        self.slots.keep()?;
        Ok(wanted)
    }
}

fn change_of<'a>(files: &'a Files, before: Option<&'a String>) -> PolicyChange<'a> {
    PolicyChange {
        origin: files.entry.origin.word(),
        before: before.map(String::as_str),
        after: &files.entry.digest,
        tools: files.entry.tools,
        caller: files.caller,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves a whole value at every point where it could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
