//! What the next session of each policy will have, made while nobody waits for it: a cgroup, and in it a
//! process 1 that waits. Only for policies under which a session was started lately, and one for each;
//! it is no session, is in no list of them, and nobody's code runs in it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex as AsyncMutex, task::spawn_blocking, time::sleep};

use super::{
    Engine,
    error::{LaunchError, chain},
    policies::Loaded,
    setup::PolicySource,
};
use crate::{
    kernel::cgroup::Vacant,
    launcher::{Place, Seat},
    policy::compiled::Digest,
};

/// What nobody has asked for in this time is given up: an agent at rest holds nothing for a policy that
/// is not used.
const WAITING_TIME_MAX: Duration = Duration::from_mins(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(15);

/// A session's place.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) seat: Seat,
    pub(super) cgroup: Vacant,
}

/// Where one waits, and since when. Who makes one holds it meanwhile: who wants it waits for that.
type Shelf = Arc<AsyncMutex<Option<(Waiting, Instant)>>>;

/// What waits, by policy.
#[derive(Debug)]
pub(super) struct Ahead {
    shelves: Mutex<HashMap<Digest, Shelf>>,
    /// Not where there will be one session only.
    more_than_one: bool,
}

impl Ahead {
    pub(super) fn new(source: &PolicySource) -> Self {
        Self {
            shelves: Mutex::default(),
            more_than_one: matches!(source, PolicySource::Folder(_)),
        }
    }

    fn shelf(&self, policy: Digest) -> Shelf {
        Arc::clone(self.lock().entry(policy).or_default())
    }

    fn known(&self, policy: Digest) -> Option<Shelf> {
        self.lock().get(&policy).cloned()
    }

    /// Takes out the shelves of these policies.
    fn remove(&self, policies: impl Fn(&Digest) -> bool) -> Vec<Shelf> {
        let mut shelves = self.lock();
        let gone: Vec<_> = shelves
            .keys()
            .copied()
            .filter(|key| policies(key))
            .collect();
        gone.iter().filter_map(|key| shelves.remove(key)).collect()
    }

    fn all(&self) -> Vec<(Digest, Shelf)> {
        let shelves = self.lock();
        shelves
            .iter()
            .map(|(digest, shelf)| (*digest, Arc::clone(shelf)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Shelf>> {
        // Every change is one insertion or removal: a panic can not leave half of one.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// What waits for a session of this policy, or what is made for it now.
    pub(super) async fn take_or_reserve(&self, loaded: &Loaded) -> Result<Waiting, LaunchError> {
        if let Some(shelf) = self.ahead.known(loaded.policy.digest) {
            let taken = shelf.lock().await.take();
            match taken {
                Some((waiting, _)) if self.launcher.is_current(&waiting.seat) => {
                    return Ok(waiting);
                }
                Some((stale, _)) => end(stale).await,
                None => {}
            }
        }
        self.reserve(loaded).await
    }

    async fn reserve(&self, loaded: &Loaded) -> Result<Waiting, LaunchError> {
        let cgroup = self.parent.vacant(&loaded.policy.limits)?;
        let place = Place {
            cgroup: cgroup.fd(),
            measures: cgroup.measures(),
        };
        match self.launcher.reserve(&loaded.policy, place).await {
            Ok(seat) => Ok(Waiting { seat, cgroup }),
            Err(error) => {
                clear(cgroup).await;
                Err(error.into())
            }
        }
    }

    /// Has a place made for the next session of a policy, unless one waits.
    pub(super) fn reserve_ahead(self: &Arc<Self>, loaded: &Loaded) {
        let kept = self.ahead.shelf(loaded.policy.digest);
        let (engine, loaded) = (Arc::clone(self), loaded.clone());
        tokio::spawn(async move {
            let mut place = kept.lock().await;
            if place.is_some() || !engine.wants_ahead(&loaded) {
                return;
            }
            match engine.reserve(&loaded).await {
                Ok(waiting) => *place = Some((waiting, Instant::now())),
                // The next launch tries for itself, and says why it fails.
                Err(error) => {
                    let tool = loaded.policy.tool.as_str();
                    tracing::debug!(policy.tool = tool, error = chain(&error), "no place ahead");
                }
            }
            // A change of policies, or the end, that came meanwhile has not seen it.
            if !engine.wants_ahead(&loaded) {
                let unwanted = place.take();
                drop(place);
                end_all(unwanted.map(|(waiting, _)| waiting)).await;
            }
        });
    }

    fn wants_ahead(&self, loaded: &Loaded) -> bool {
        let set = self.policies.current();
        let current = set.by_tool.get(loaded.policy.tool.as_str());
        let in_force = current.is_some_and(|now| now.policy.digest == loaded.policy.digest);
        self.ahead.more_than_one && in_force && !self.stopping.is_now()
    }

    /// Gives up what waits for sessions of these policies; nothing of it is left when this returns.
    pub(super) async fn give_up_ahead(&self, policies: impl Fn(&Digest) -> bool) {
        for shelf in self.ahead.remove(policies) {
            let waiting = shelf.lock().await.take();
            end_all(waiting.map(|(waiting, _)| waiting)).await;
        }
    }
}

/// Gives up what nobody has asked for in a while, until the engine goes.
pub(super) async fn sweep(engine: Arc<Engine>) {
    loop {
        sleep(LOOK).await;
        for (_, shelf) in engine.ahead.all() {
            let mut place = shelf.lock().await;
            let old = |(_, since): &mut (Waiting, Instant)| since.elapsed() >= WAITING_TIME_MAX;
            let taken = place.take_if(old);
            drop(place);
            end_all(taken.map(|(waiting, _)| waiting)).await;
        }
    }
}

async fn end_all(waiting: impl IntoIterator<Item = Waiting>) {
    for waiting in waiting {
        end(waiting).await;
    }
}

async fn end(Waiting { seat, cgroup }: Waiting) {
    seat.give_up().await;
    clear(cgroup).await;
}

async fn clear(cgroup: Vacant) {
    match spawn_blocking(move || cgroup.end()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = chain(&error), "place not cleared"),
        Err(error) => tracing::error!(%error, "place not cleared"),
    }
}
