//! Whether the root of a template is still the one that its policy would get now: a mount and a landlock
//! rule stay with the file that they were made for, whatever has its name by now.
//!
//! Looked at no more often than once a second, by a thread that may wait: a listed path may lie on a file
//! system that does not answer. A template has one such thread at most. What changed within that second
//! is seen by a later launch; a socket that was replaced is seen by the next.

use std::{
    sync::{Arc, Condvar, Mutex as SyncMutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::spawn_blocking};

use crate::{
    policy::compiled::CompiledPolicy,
    sandbox::{Plan, sockets},
};

/// A look is good for so long.
const FRESH: Duration = Duration::from_secs(1);
/// A look takes some microseconds a path. Longer than this no thread that serves others waits for one.
const PATIENCE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Standing(Arc<Look>);

#[derive(Debug)]
struct Look {
    plan: Arc<Plan>,
    policy: Arc<CompiledPolicy>,
    seen: SyncMutex<Seen>,
    /// A look ended: for threads that wait, and for tasks.
    ended: Condvar,
    told: Notify,
}

#[derive(Debug)]
struct Seen {
    /// When the last look that ended had begun.
    at: Instant,
    same: bool,
    /// When the one that has not ended began.
    under_way: Option<Instant>,
}

/// What somebody wants to know.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    asked: Instant,
    /// A look may be as old as this.
    age: Duration,
}

impl Standing {
    /// Of a plan that was begun to be computed for this policy at this time.
    pub(super) fn new(plan: Arc<Plan>, policy: Arc<CompiledPolicy>, at: Instant) -> Self {
        let seen = Seen {
            at,
            same: true,
            under_way: None,
        };
        Self(Arc::new(Look {
            plan,
            policy,
            seen: SyncMutex::new(seen),
            ended: Condvar::new(),
            told: Notify::new(),
        }))
    }

    /// Whether it is. Waits for as long as a look takes, which may be for ever.
    pub(super) async fn is_same(&self) -> bool {
        let Self(look) = self;
        let wanted = look.wanted();
        loop {
            // Before the look is begun: its end is not missed.
            let ended = look.told.notified();
            if let Some(same) = look.said_or_begun(wanted) {
                return same;
            }
            ended.await;
        }
    }

    /// Whether it is known to be, as good as at once: a look that takes longer says later what it saw.
    /// Wants a runtime.
    pub(super) fn is_same_at_once(&self) -> bool {
        let Self(look) = self;
        let wanted = look.wanted();
        let mut seen = look.seen();
        loop {
            if let Some(same) = seen.said(wanted) {
                return same;
            }
            let began = look.begin(&mut seen);
            let left = PATIENCE.saturating_sub(began.elapsed());
            if left.is_zero() {
                return false;
            }
            let slept = look.ended.wait_timeout(seen, left);
            seen = slept.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Look {
    fn wanted(&self) -> Wanted {
        // A server that starts again is to be reached by the very next session.
        let known = sockets::are_same_at_once(&self.plan.sockets);
        Wanted {
            asked: Instant::now(),
            age: if known { FRESH } else { Duration::ZERO },
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said_or_begun(self: &Arc<Self>, wanted: Wanted) -> Option<bool> {
        let mut seen = self.seen();
        let said = seen.said(wanted);
        if said.is_none() {
            self.begin(&mut seen);
        }
        said
    }

    /// Begins a look, unless one is under way; when that one began.
    fn begin(self: &Arc<Self>, seen: &mut Seen) -> Instant {
        *seen.under_way.get_or_insert_with(|| {
            let look = Arc::clone(self);
            spawn_blocking(move || look.carry_out());
            Instant::now()
        })
    }

    fn carry_out(&self) {
        let same = self.plan.is_current(&self.policy.filesystem);
        let mut seen = self.seen();
        if let Some(began) = seen.under_way.take() {
            seen.at = began;
        }
        // For good: from the root it was taken away, whatever lies there again.
        seen.same &= same;
        drop(seen);
        self.ended.notify_all();
        self.told.notify_waiters();
    }
}

impl Seen {
    /// What the last look says to somebody, unless it is too old.
    fn said(&self, Wanted { asked, age }: Wanted) -> Option<bool> {
        if !self.same {
            return Some(false);
        }
        // One that was begun later counts however long it took.
        (self.at >= asked || asked.duration_since(self.at) < age).then_some(true)
    }
}

#[cfg(test)]
mod tests;
