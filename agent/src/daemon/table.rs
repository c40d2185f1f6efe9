//! The sessions that are alive, and what each was refused so far.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::{PolicyId, SessionId};
use tokio::sync::mpsc;

use crate::{
    audit::Caller,
    observe::{
        event::Event,
        refused::{Refusal, Refusals},
    },
    policy::compiled::CompiledPolicy,
    sandbox::Enforced,
    timestamp::Timestamp,
};

/// What is asked of a session that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// Hand a signal on to the worker.
    Signal(i32),
    /// End it.
    End(Why),
}

/// Why a session is ended before its worker ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    OutputSpent,
    CallerGone,
    AgentStopped,
    PolicyRemoved,
}

/// A session that is alive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) policy_id: PolicyId,
    pub(super) policy: Arc<CompiledPolicy>,
    pub(super) command: Vec<String>,
    pub(super) caller: Caller,
    pub(super) started: Timestamp,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) refusals: Refusals,
    /// What is enforced, per measure; nothing until its worker runs.
    pub(super) enforced: Option<Enforced>,
    /// Its processes are being ended: nothing is granted any more.
    pub(super) ending: bool,
    /// Somebody else started its processes.
    pub(super) outpost: Option<Outpost>,
}

/// The cgroup of a session whose processes somebody else started.
#[derive(Clone, Debug)]
pub(super) struct Outpost {
    /// Its folder.
    pub(super) cgroup: String,
    /// What its processes have that no fence holds.
    pub(super) weak: Vec<String>,
}

/// What a session was refused in its life.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) list: Vec<Refusal>,
    pub(super) missing: u64,
}

/// The sessions, by id.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<BTreeMap<SessionId, Entry>>);

impl Table {
    /// Adds a session.
    pub(super) fn insert(&self, session: SessionId, entry: Entry) {
        self.lock().insert(session, entry);
    }

    /// Notes what was put up for a session.
    pub(super) fn runs(&self, session: SessionId, enforced: Enforced) {
        if let Some(entry) = self.lock().get_mut(&session) {
            entry.enforced = Some(enforced);
        }
    }

    /// Takes a session out and tells what it was refused.
    pub(super) fn remove(&self, session: SessionId) -> Refused {
        let entry = self.lock().remove(&session);
        entry.map_or_else(Refused::default, |entry| Refused {
            list: entry.refusals.list(),
            missing: entry.refusals.missing(),
        })
    }

    /// The policy of a session that is not being ended.
    pub(super) fn policy_of(&self, session: SessionId) -> Option<PolicyId> {
        let table = self.lock();
        let entry = table.get(&session).filter(|entry| !entry.ending)?;
        Some(entry.policy_id)
    }

    /// Notes that a session is being ended; tells its tool.
    pub(super) fn retire(&self, session: SessionId) -> Option<String> {
        let mut table = self.lock();
        let entry = table.get_mut(&session)?;
        entry.ending = true;
        Some(entry.policy.tool.to_string())
    }

    /// Adds an event to its session.
    pub(super) fn note(&self, event: &Event) {
        let Some(session) = event.session.map(SessionId) else {
            return;
        };
        if let Some(entry) = self.lock().get_mut(&session) {
            entry.refusals.note(event);
        }
    }

    /// Asks each session of a policy that is gone, or every session, to end.
    pub(super) fn end(&self, why: Why, concerned: impl Fn(&Entry) -> bool) {
        for entry in self.lock().values().filter(|entry| concerned(entry)) {
            // A full queue means that the session is being ended already.
            if let Err(error) = entry.commands.try_send(Command::End(why)) {
                tracing::debug!(%error, "session not told to end");
            }
        }
    }

    /// Notes the policy that is in force for a session whose processes somebody else started.
    pub(super) fn renew(&self, session: SessionId, policy: &Arc<CompiledPolicy>) {
        if let Some(entry) = self.lock().get_mut(&session)
            && !Arc::ptr_eq(&entry.policy, policy)
        {
            entry.policy = Arc::clone(policy);
        }
    }

    /// Notes what processes that somebody else started have that no fence holds.
    pub(super) fn weaken(&self, session: SessionId, holes: &[String]) {
        if let Some(entry) = self.lock().get_mut(&session)
            && let Some(outpost) = &mut entry.outpost
        {
            holes.clone_into(&mut outpost.weak);
        }
    }

    /// How many workers there are.
    pub(super) fn len(&self) -> usize {
        let table = self.lock();
        table
            .values()
            .filter(|entry| entry.outpost.is_none())
            .count()
    }

    /// How many workers there are of each tool.
    pub(super) fn by_tool(&self) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for entry in self.lock().values().filter(|entry| entry.outpost.is_none()) {
            let count = counts.entry(entry.policy.tool.to_string()).or_insert(0_u64);
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Something of each, in the order of their ids.
    pub(super) fn map<T>(&self, what: impl Fn(SessionId, &Entry) -> T) -> Vec<T> {
        let table = self.lock();
        table.iter().map(|(id, entry)| what(*id, entry)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        // Every change is one insertion or removal: a panic can not leave half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
