//! Attachments: fences around what somebody else starts. An attachment is a standing order, for a cgroup
//! or a unit; while its target has a cgroup that one is a session without a process of ours.
//!
//! The order of a fence is that of a launch: checks, record, what is kept, entry in the kernel's table,
//! hooks; then the sockets that were there before are destroyed.

mod error;
mod establish;
mod follow;
mod order;
mod settle;
mod shown;
mod state;
mod target;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::id::{CgroupId, SessionId};
use tokio::sync::Notify;

use self::state::Fence;
pub use self::{
    error::AttachError,
    order::{AttachOrder, AttachReport},
    shown::AttachmentInfo,
    state::StateError,
    target::{Target, TargetError},
};
pub(super) use self::{
    follow::follow,
    state::{Kept, forget, read as read_kept},
};

/// Attachments of one agent.
const ATTACHMENTS_MAX: usize = 1_024;
/// How long a new fence is looked at often: its processes come up, and change what they are.
const FRESH: Duration = Duration::from_secs(4);

/// What is attached.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    /// One change at a time.
    gate: tokio::sync::Mutex<()>,
    table: Mutex<BTreeMap<Target, Attachment>>,
    /// Network namespaces in which the resolver listens for them.
    namespaces: Mutex<Vec<u64>>,
    /// Something may be out of date.
    stir: Notify,
    /// Until when looks are frequent.
    fresh_until: Mutex<Option<Instant>>,
    /// Fences of the agent before, until they are taken up.
    earlier: Mutex<Vec<Kept>>,
}

/// One attachment.
#[derive(Clone, Debug)]
struct Attachment {
    tool: String,
    weak: bool,
    matched: bool,
    live: Option<Live>,
    /// Hooks that an earlier agent left standing and that could not be taken up: nobody talks there.
    left: Option<Fence>,
    /// Why its cgroup, where it has one, is not fenced: a word, and the whole sentence.
    refused: Option<(&'static str, String)>,
}

/// A fence that stands.
#[derive(Clone, Debug)]
struct Live {
    session: SessionId,
    cgroup: CgroupId,
    path: PathBuf,
    /// Network namespaces of its processes, but the agent's.
    namespaces: Vec<u64>,
    /// What its processes have that no fence holds.
    holes: Vec<String>,
    /// Since when there are any.
    holes_since: Option<Instant>,
    /// No sockets are made in it, for these holes.
    suspended: bool,
    /// Hooks that somebody took off: it is none.
    missing: Vec<&'static str>,
    /// What else is wrong with it.
    ailments: Vec<String>,
}

impl Attachment {
    fn new(tool: String, weak: bool, matched: bool) -> Self {
        Self {
            tool,
            weak,
            matched,
            live: None,
            left: None,
            refused: None,
        }
    }

    /// Whose hooks stand.
    fn fence(&self) -> Option<Fence> {
        let live = self.live.as_ref().map(|live| Fence {
            session: live.session.0,
            cgroup: live.cgroup.0,
        });
        live.or_else(|| self.left.clone())
    }
}

impl Attachments {
    /// With the fences of the agent before.
    pub(super) fn new(earlier: Vec<Kept>) -> Self {
        Self {
            earlier: Mutex::new(earlier),
            ..Self::default()
        }
    }

    /// Has everything looked at again soon.
    pub(super) fn stir(&self) {
        self.stir.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Target, Attachment>> {
        lock(&self.table)
    }

    fn is_fresh(&self) -> bool {
        lock(&self.fresh_until).is_some_and(|until| Instant::now() < until)
    }

    fn freshen(&self) {
        *lock(&self.fresh_until) = Instant::now().checked_add(FRESH);
    }

    /// In the form in which it is kept.
    fn kept(&self) -> Vec<Kept> {
        let table = self.table();
        let mut kept: Vec<_> = table
            .iter()
            .map(|(target, attachment)| Kept {
                target: target.clone(),
                tool: attachment.tool.clone(),
                weak: attachment.weak,
                matched: attachment.matched,
                fence: attachment.fence(),
            })
            .collect();
        drop(table);
        // Those that are still to be taken up.
        kept.extend(lock(&self.earlier).iter().cloned());
        kept
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves a whole value at every point where it could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
