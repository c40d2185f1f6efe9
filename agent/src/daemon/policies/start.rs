//! The first set of an agent: a change that was cut short is finished, and where the folder is bad the
//! last good set is taken.

use std::{path::Path, sync::Mutex};

use arc_swap::ArcSwap;

use super::{
    By, ChangeError, Keeping, Policies, ReloadError, State, folder,
    history::{Entry, History, Origin},
    lock,
    set::Files,
    slots::Slots,
};
use crate::{
    audit::Journal,
    config::Instance,
    daemon::{
        error::{chain, told},
        setup::PolicySource,
    },
    kernel::{Kernel, Synced},
    policy::{self, bundle::Bundle},
};

impl Policies {
    /// Puts the source in force for the first time: a change that was cut short is finished before,
    /// and where the folder is bad the last good set is taken.
    pub(in crate::daemon) fn first(
        source: PolicySource,
        keeping: Option<Keeping>,
        instance: &Instance,
        kernel: &Kernel,
        journal: &Journal,
    ) -> Result<(Self, Synced), ReloadError> {
        let slots = Slots::read(&source, &instance.run_folder())?;
        let policies = Self {
            source,
            state: Mutex::new(State {
                slots,
                history: None,
            }),
            current: ArcSwap::default(),
            last_error: Mutex::new(None),
            unkept: Mutex::new(None),
        };
        let mut state = lock(&policies.state);
        if let Some(Keeping { folder, sets }) = keeping {
            match History::open(&folder, sets) {
                Ok(history) => state.history = Some(history),
                Err(error) => policies.not_kept(&error),
            }
        }
        let finished = policies.finish_begun(&mut state);
        let by = By {
            origin: Origin::Start,
            caller: None,
        };
        let first =
            finished.and_then(|()| policies.read_and_apply(&mut state, kernel, journal, by));
        let synced = match first {
            Ok(synced) => synced,
            Err(error) => policies.fall_back(&mut state, kernel, journal, error)?,
        };
        drop(state);
        Ok((policies, synced))
    }

    /// The newest kept set that can be put in force. Where there is none, the agent does not start.
    fn fall_back(
        &self,
        state: &mut State,
        kernel: &Kernel,
        journal: &Journal,
        error: ReloadError,
    ) -> Result<Synced, ReloadError> {
        let candidates = state.candidates();
        for digest in candidates {
            match self.take_kept(state, kernel, journal, &digest) {
                Ok((synced, entry)) => {
                    let why = told(&error);
                    let Entry { digest, time, .. } = entry;
                    tracing::error!(
                        error = chain(&error),
                        policies.digest = digest,
                        "policy folder is bad: the last good set is in force"
                    );
                    let text =
                        format!("{why}\nthe last good set, of {time}, is in force: {digest}");
                    *lock(&self.last_error) = Some(text);
                    return Ok(synced);
                }
                Err(why) => {
                    let why = told(&why);
                    tracing::warn!(policies.digest = digest, why, "kept policy set not usable");
                }
            }
        }
        Err(error)
    }

    fn take_kept(
        &self,
        state: &mut State,
        kernel: &Kernel,
        journal: &Journal,
        digest: &str,
    ) -> Result<(Synced, Entry), ChangeError> {
        let history = state.history.as_ref().ok_or(ChangeError::NoHistory)?;
        let kept = history.get(digest)?;
        let known = history.entries().iter().rev();
        let time = known
            .clone()
            .find(|entry| entry.digest == digest)
            .map(|entry| entry.time.clone());
        let sources = policy::store::compile_held(Path::new("the last good set"), &kept)?;
        let by = By {
            origin: Origin::LastGood,
            caller: None,
        };
        let files = Files::new(&sources, by);
        self.tell(journal, &files, Some(history));
        let mut entry = files.entry.clone();
        entry.time = time.unwrap_or(entry.time);
        let synced = self.apply(state, kernel, &sources.set, Some(files))?;
        Ok((synced, entry))
    }

    /// Finishes the change of the folder that an agent had begun when it was killed, or takes it back
    /// where its set is gone.
    pub(super) fn finish_begun(&self, state: &mut State) -> Result<(), ReloadError> {
        let PolicySource::Folder(place) = &self.source else {
            return Ok(());
        };
        let Some(history) = &mut state.history else {
            return Ok(());
        };
        folder::sweep(place);
        let note = match history.begun() {
            Ok(None) => return Ok(()),
            Ok(Some(note)) => note,
            Err(error) => return Err(cut(error.into())),
        };
        if note.folder != *place {
            tracing::warn!(
                folder = %note.folder.display(),
                "a change of another policy folder was cut short: dropped"
            );
            return history.abandon().map_err(|error| cut(error.into()));
        }
        let before = note.before.as_ref().map(|digest| history.get(digest));
        let before = before.transpose();
        let finished = match (history.get(&note.entry.digest), before) {
            (Ok(after), before) => {
                let old = before.ok().flatten().unwrap_or_default();
                write(place, &after, &old)
                    .and_then(|()| history.finish_again(note.entry.clone()).map_err(Into::into))
            }
            (Err(_), Ok(Some(before))) => write(place, &before, &Bundle::default())
                .and_then(|()| history.abandon().map_err(Into::into)),
            (Err(error), _) => Err(error.into()),
        };
        finished.map_err(cut)?;
        let digest = note.entry.digest;
        tracing::warn!(
            policies.digest = digest,
            "change of policies finished that was cut short"
        );
        Ok(())
    }
}

impl State {
    /// What may be put in force where the folder is bad: what was about to be, then what was.
    fn candidates(&self) -> Vec<String> {
        let Some(history) = &self.history else {
            return Vec::new();
        };
        let begun = history.begun().ok().flatten();
        let begun = begun.map(|note| note.entry.digest);
        let kept = history.entries().iter().rev();
        let kept = kept.map(|entry| entry.digest.clone());
        let mut candidates: Vec<String> = Vec::new();
        for digest in begun.into_iter().chain(kept) {
            if !candidates.contains(&digest) {
                candidates.push(digest);
            }
        }
        candidates
    }
}

fn cut(error: ChangeError) -> ReloadError {
    ReloadError::Cut(Box::new(error))
}

/// Writes a set into the folder, whatever lies there.
fn write(place: &Path, after: &Bundle, before: &Bundle) -> Result<(), ChangeError> {
    let mut staged = folder::stage(place, after, before)?;
    staged.exchange()?;
    staged.keep();
    Ok(())
}
