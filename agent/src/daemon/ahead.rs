//! What the next sessions of each policy will have, made while nobody waits for it: a cgroup, and in it a
//! process 1 that waits. Only for policies under which a session was started lately, and for each as many
//! as were wanted at once; it is no session, is in no list of them, and nobody's code runs in it.

mod shelf;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::sleep,
};

use self::shelf::{Put, Shelves, Taken};
use super::{
    Engine,
    control::protocol::PlaceStatus,
    error::{LaunchError, chain},
    policies::Loaded,
};
use crate::{
    kernel::cgroup::Vacant,
    launcher::{Fit, Place, Seat},
    observe::metrics::PlaceNumbers,
    policy::compiled::Digest,
};

/// How often it is looked what nobody needs.
const LOOK: Duration = Duration::from_secs(15);

/// A session's place.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) seat: Seat,
    pub(super) cgroup: Vacant,
}

/// One that was made ahead. As long as it waits it counts among those of all policies.
#[derive(Debug)]
struct Ready {
    waiting: Waiting,
    _room: OwnedSemaphorePermit,
}

/// Why a place does not wait any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
enum Gone {
    /// A session has it.
    Used,
    /// Nobody has needed it.
    Idle,
    /// Its policy is not in force any more, or the agent ends.
    Withdrawn,
    /// The root in which it was made is to be made anew.
    OldRoot,
    /// Its process 1 ended.
    Ended,
}

impl Gone {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Used, "used"),
        (Self::Idle, "idle"),
        (Self::Withdrawn, "withdrawn"),
        (Self::OldRoot, "old_root"),
        (Self::Ended, "ended"),
    ];
}

/// What waits, by policy.
#[derive(Debug)]
pub(super) struct Ahead {
    shelves: Mutex<Shelves<Ready>>,
    /// Over all policies.
    room: Arc<Semaphore>,
    max: usize,
    made: AtomicU64,
    failed: AtomicU64,
    missed: AtomicU64,
    gone: [AtomicU64; Gone::ALL.len()],
}

impl Ahead {
    /// For so many at most.
    pub(super) fn new(max: u32) -> Self {
        let max = max as usize;
        Self {
            shelves: Mutex::default(),
            room: Arc::new(Semaphore::new(max)),
            max,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            gone: Default::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves<Ready>> {
        // A panic half-way loses places at most, never gives one away twice.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, gone: Gone) {
        if let Some(count) = self.gone.get(gone as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waiting(&self) -> usize {
        self.lock().counts().map(|(_, count)| count).sum()
    }

    async fn give_up(&self, places: impl IntoIterator<Item = Ready>, why: Gone) {
        for place in places {
            self.count(why);
            end(place.waiting).await;
        }
    }
}

impl Engine {
    /// What waits for a session of this policy, or what is made for it now.
    pub(super) async fn take_or_reserve(&self, loaded: &Loaded) -> Result<Waiting, LaunchError> {
        let policy = loaded.policy.digest;
        let mut unfit = false;
        loop {
            let taken = self.ahead.lock().take(policy, Instant::now());
            if !matches!(taken, Taken::Waiting(_)) && !unfit {
                self.ahead.lock().want_more(policy);
            }
            let place = match taken {
                Taken::Waiting(place) => place,
                Taken::Soon(soon) => match soon.await {
                    Ok(place) => place,
                    // The launch tries for itself, and says why it fails.
                    Err(_failed) => break,
                },
                Taken::Nothing => break,
            };
            unfit = true;
            let why = match self.launcher.fit(&place.waiting.seat) {
                Fit::Yes => {
                    self.ahead.count(Gone::Used);
                    return Ok(place.waiting);
                }
                Fit::OldRoot => Gone::OldRoot,
                Fit::Ended => Gone::Ended,
            };
            self.ahead.give_up([place], why).await;
        }
        self.ahead.missed.fetch_add(1, Ordering::Relaxed);
        self.reserve(loaded).await
    }

    /// Makes a place.
    pub(super) async fn reserve(&self, loaded: &Loaded) -> Result<Waiting, LaunchError> {
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

    /// Has places made for the next sessions of a policy, unless enough wait.
    pub(super) fn reserve_ahead(self: &Arc<Self>, loaded: &Loaded) {
        let Some(mut room) = self.begin_ahead(loaded) else {
            return;
        };
        let (engine, loaded) = (Arc::clone(self), loaded.clone());
        tokio::spawn(async move {
            while engine.make_ahead(&loaded, room).await
                && let Some(next) = engine.begin_ahead(&loaded)
            {
                room = next;
            }
        });
    }

    /// Whether one is to be made now: its room among all.
    fn begin_ahead(&self, loaded: &Loaded) -> Option<OwnedSemaphorePermit> {
        if !self.wants_ahead(loaded) {
            return None;
        }
        let room = Arc::clone(&self.ahead.room).try_acquire_owned().ok()?;
        let begun = (self.ahead.lock()).begin(loaded.policy.digest, Instant::now());
        begun.then_some(room)
    }

    /// Makes a place ahead; tells whether it came about.
    async fn make_ahead(&self, loaded: &Loaded, room: OwnedSemaphorePermit) -> bool {
        let policy = loaded.policy.digest;
        let made = self.reserve(loaded).await;
        let put = match made {
            Ok(waiting) => {
                self.ahead.made.fetch_add(1, Ordering::Relaxed);
                let place = Ready {
                    waiting,
                    _room: room,
                };
                self.ahead.lock().put(policy, place)
            }
            // The next launch tries for itself, and says why it fails.
            Err(error) => {
                let tool = loaded.policy.tool.as_str();
                tracing::debug!(policy.tool = tool, error = chain(&error), "no place ahead");
                self.ahead.failed.fetch_add(1, Ordering::Relaxed);
                self.ahead.lock().failed(policy);
                return false;
            }
        };
        if let Put::Unwanted(place) = put {
            self.ahead.give_up([place], Gone::Withdrawn).await;
        }
        // A change of policies, or the end, that came meanwhile has not seen it.
        if !self.wants_ahead(loaded) {
            self.give_up_ahead(|waiting| *waiting == policy).await;
        }
        true
    }

    fn wants_ahead(&self, loaded: &Loaded) -> bool {
        let set = self.policies.current();
        let current = set.by_tool.get(loaded.policy.tool.as_str());
        let in_force = current.is_some_and(|now| now.policy.digest == loaded.policy.digest);
        in_force && !self.stopping.is_now()
    }

    /// Gives up what waits for sessions of these policies; nothing of it is left when this returns.
    pub(super) async fn give_up_ahead(&self, policies: impl Fn(&Digest) -> bool) {
        let places = self.ahead.lock().remove(policies);
        self.ahead.give_up(places, Gone::Withdrawn).await;
    }

    /// Places as metrics have them.
    pub(super) fn place_numbers(&self) -> PlaceNumbers {
        let set = self.policies.current();
        let counts: std::collections::HashMap<_, _> = self.ahead.lock().counts().collect();
        let waiting = set.by_tool.iter().map(|(tool, loaded)| {
            let count = counts.get(&loaded.policy.digest).copied().unwrap_or(0);
            (tool.clone(), count as u64)
        });
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gone = Gone::ALL.iter().zip(&self.ahead.gone);
        PlaceNumbers {
            waiting: waiting.collect(),
            max: self.ahead.max as u64,
            made: of(&self.ahead.made),
            failed: of(&self.ahead.failed),
            missed: of(&self.ahead.missed),
            gone: gone.map(|((_, why), count)| (*why, of(count))).collect(),
        }
    }

    /// Places as the control socket tells of them.
    pub(super) fn place_status(&self) -> PlaceStatus {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PlaceStatus {
            waiting: self.ahead.waiting() as u64,
            max: self.ahead.max as u64,
            made: of(&self.ahead.made),
            failed: of(&self.ahead.failed),
            used: self.ahead.gone.first().map_or(0, of),
            missed: of(&self.ahead.missed),
        }
    }
}

/// Gives up what nobody has needed in a while and what is of no use any more, until the engine goes.
pub(super) async fn sweep(engine: Arc<Engine>) {
    loop {
        sleep(LOOK).await;
        let ahead = &engine.ahead;
        for (fit, why) in [(Fit::Ended, Gone::Ended), (Fit::OldRoot, Gone::OldRoot)] {
            let is_fit = |place: &Ready| engine.launcher.fit(&place.waiting.seat) != fit;
            let unfit = ahead.lock().take_unfit(is_fit);
            ahead.give_up(unfit, why).await;
        }
        let idle = ahead.lock().take_idle(Instant::now());
        ahead.give_up(idle, Gone::Idle).await;
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
