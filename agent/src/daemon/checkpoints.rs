//! Keeps the journal's checkpoints in other places, so that who can write the journal can not undo
//! what was signed: in the host's log, in a file, with whoever takes them by HTTP.
//!
//! Each place gets the newest one, not more often than the configuration says, and again until it has
//! taken it. A place that is slow, full or gone holds up nothing but itself.

mod way;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Engine, error::StartError};
use crate::{
    audit::Signed,
    config::{self, Keeper},
    observe::metrics::CheckpointNumbers,
};
use way::{NotKept, Way};

/// Time that a place has to take one.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Pause after the first failure; it doubles with each one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// The file of authorities that a place's server is checked by can not be used.
#[derive(Debug, thiserror::Error)]
#[error("checkpoints to `{url}`: authorities `{}`: {why}", path.display())]
pub struct NoAuthorities {
    url: String,
    path: PathBuf,
    why: String,
}

/// The places.
#[derive(Debug)]
pub(super) struct Checkpoints(Vec<Arc<Place>>);

/// A place and how it does.
#[derive(Debug)]
struct Place {
    /// Kind and number, for log and metric.
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the oldest checkpoint was due that it lacks.
    due: Option<Instant>,
    kept: u64,
    failed: u64,
    /// Whether the last attempt failed.
    failing: bool,
}

impl Engine {
    /// Begins to keep checkpoints where the configuration says so.
    pub fn keep_checkpoints(&self, audit: &config::Audit) -> Result<(), StartError> {
        let mut places = Vec::new();
        for (keeper, number) in audit.keepers.iter().zip(1_u8..) {
            let way = Way::to(keeper, &self.instance)?;
            let place = Arc::new(Place {
                name: format!("{}-{number}", kind(keeper)),
                state: Mutex::default(),
            });
            places.push(Arc::clone(&place));
            self.spawn(keep(place, way, audit.every, self.journal.checkpoints()));
        }
        // Called once.
        self.checkpoints.set(Checkpoints(places)).ok();
        Ok(())
    }

    /// How the places do.
    pub(super) fn checkpoint_numbers(&self) -> Vec<CheckpointNumbers> {
        let places = self.checkpoints.get().map(|all| all.0.as_slice());
        let places = places.unwrap_or_default().iter();
        places.map(|place| place.numbers()).collect()
    }
}

fn kind(keeper: &Keeper) -> &'static str {
    match keeper {
        Keeper::Journald => "journald",
        Keeper::File(_) => "file",
        Keeper::Post { .. } => "http",
    }
}

/// Hands over the newest checkpoint whenever there is one that the place lacks.
async fn keep(
    place: Arc<Place>,
    way: Way,
    every: Duration,
    mut signed: watch::Receiver<Option<Signed>>,
) {
    let (mut has, mut not_before) = (0, Instant::now());
    loop {
        let lacks = |signed: &Option<Signed>| signed.as_ref().is_some_and(|one| one.sequence > has);
        if signed.wait_for(lacks).await.is_err() {
            // The journal is closed.
            return;
        }
        place.lock().due = Some(not_before.max(Instant::now()));
        sleep_until(not_before).await;
        let mut pause = PAUSE_MIN;
        has = loop {
            let Some(newest) = signed.borrow_and_update().clone() else {
                return;
            };
            let kept = timeout(TIME_MAX, way.keep(&newest)).await;
            match kept.unwrap_or(Err(NotKept::Slow)) {
                Ok(()) => break newest.sequence,
                Err(error) => {
                    place.failed(&error);
                    sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        };
        place.has(has);
        let now = Instant::now();
        not_before = now.checked_add(every).unwrap_or(now);
    }
}

impl Place {
    fn has(&self, sequence: u64) {
        let mut state = self.lock();
        state.due = None;
        state.kept = state.kept.saturating_add(1);
        if std::mem::take(&mut state.failing) {
            tracing::info!(place = self.name, sequence, "checkpoints are kept again");
        }
    }

    fn failed(&self, error: &NotKept) {
        let mut state = self.lock();
        state.failed = state.failed.saturating_add(1);
        // Once: the metric tells that it goes on.
        if !std::mem::replace(&mut state.failing, true) {
            tracing::warn!(place = self.name, %error, "checkpoint not kept; tried again");
        }
    }

    fn numbers(&self) -> CheckpointNumbers {
        let state = self.lock();
        let lag = state.due.map_or(Duration::ZERO, |due| {
            Instant::now().saturating_duration_since(due)
        });
        CheckpointNumbers {
            place: self.name.clone(),
            lag,
            sent: vec![("kept", state.kept), ("failed", state.failed)],
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
