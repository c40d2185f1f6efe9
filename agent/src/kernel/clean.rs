//! Takes old generations out of the maps, when no decision can still read them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use common::{
    id::{CgroupId, Generation, PolicyId, SessionId},
    layout::Worker,
};

use super::{Inner, error::Error, maps::Maps, plan::MapPlan};
use crate::{policy::compiled::CompiledPolicy, sys::membarrier};

/// How long an old generation stays where the kernel can not say that nobody reads it.
const GRACE: Duration = Duration::from_millis(200);

/// A generation that is to go, with its slot and the policy that it is made of.
pub(in crate::kernel) type Retired = (PolicyId, Generation, Arc<CompiledPolicy>);

/// Old generations that are still in force, and the thread that will remove them: there before others are
/// put in force, because nothing may fail after that. Dropped, it removes nothing.
#[derive(Debug)]
#[must_use]
pub(in crate::kernel) struct Ready {
    begin: Sender<()>,
    cleaning: Cleaning,
}

impl Ready {
    /// They are in force no longer.
    pub(in crate::kernel) fn begin(self) -> Cleaning {
        if self.begin.send(()).is_err() {
            tracing::error!("old generations stay: the thread that removes them has ended");
        }
        self.cleaning
    }
}

/// Old generations on their way out.
#[derive(Debug)]
pub(in crate::kernel) struct Cleaning {
    thread: thread::JoinHandle<()>,
    entries: usize,
    names: usize,
    rules: usize,
}

impl Cleaning {
    /// Elements of the tables of addresses, of names and of rules that are still there.
    pub(in crate::kernel) fn sizes(&self) -> (usize, usize, usize) {
        (self.entries, self.names, self.rules)
    }

    pub(in crate::kernel) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub(in crate::kernel) fn wait(self) {
        if self.thread.join().is_err() {
            tracing::error!("removing an old generation panicked");
        }
    }
}

/// Gets everything ready to remove these generations, on a thread of its own, once they are no longer in
/// force.
pub(in crate::kernel) fn prepare(
    inner: &Arc<Inner>,
    retired: Vec<Retired>,
) -> Result<Ready, Error> {
    let egress = || retired.iter().map(|(_, _, policy)| &policy.egress);
    let entries = egress().map(|egress| egress.table.len()).sum();
    let names = egress().map(|egress| egress.names.entries().len()).sum();
    let rules = egress().map(|egress| egress.rules.len()).sum();
    let inner = Arc::clone(inner);
    let (begin, told) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("kernel-clean".to_owned())
        .spawn(move || {
            if told.recv().is_err() {
                // Given up: they are in force still.
                return;
            }
            wait_for_readers();
            for (id, generation, policy) in retired {
                let plan = MapPlan::new(id, generation, &policy.egress);
                if let Err(error) = plan.remove(&inner.maps) {
                    tracing::error!(%error, policy.id = id.0, "an old generation stays");
                }
            }
        })
        .map_err(|source| Error::Thread {
            name: "kernel-clean",
            source,
        })?;
    Ok(Ready {
        begin,
        cleaning: Cleaning {
            thread,
            entries,
            names,
            rules,
        },
    })
}

/// Returns when every decision that read the old word has ended. Programs run under the RCU read
/// lock, and this system call waits for an RCU grace period; where it is refused (`nohz_full`), a
/// time that no decision takes.
fn wait_for_readers() {
    if membarrier::global().is_err() {
        thread::sleep(GRACE);
    }
}

/// Forgets the sessions of an earlier agent: from here on they are unknown, so that a slot that
/// gets another policy opens nothing to them.
///
/// Those of `kept` cgroups stay, with what their sockets were allowed: nobody ended their processes, and
/// their slots have the same policies as before.
pub(in crate::kernel) fn disown_sessions(
    maps: &Maps,
    kept: &BTreeMap<CgroupId, Worker>,
) -> Result<(), Error> {
    let is_kept = |session| kept.values().any(|worker| worker.session == session);
    for cgroup in maps.workers.keys()? {
        if !kept.contains_key(&CgroupId(cgroup)) {
            maps.workers.remove(&cgroup)?;
        }
    }
    for grant in maps.grants.keys()? {
        maps.grants.remove(&grant)?;
    }
    for client in maps.clients.keys()? {
        maps.clients.remove(&client)?;
    }
    for session in maps.usage.keys()? {
        if session != SessionId(0) && !is_kept(session) {
            maps.usage.remove(&session)?;
        }
    }
    Ok(())
}

/// Removes every element of a generation that is not in force: what an earlier agent published,
/// wholly or in part.
pub(in crate::kernel) fn purge(inner: &Inner) -> Result<(), Error> {
    let maps = &inner.maps;
    let dead = |policy: PolicyId, generation: Generation| {
        inner.word(policy).generation() != Some(generation)
    };
    let (exact, live, limits) = (maps.exact.keys()?, maps.live.keys()?, maps.limits.keys()?);
    let (prefixes, names) = (maps.prefixes.keys()?, maps.names.keys()?);
    let unix_doors = maps.unix_doors.keys()?;
    let tables_are_empty =
        exact.is_empty() && prefixes.is_empty() && names.is_empty() && unix_doors.is_empty();
    if tables_are_empty && live.is_empty() && limits.is_empty() {
        return Ok(());
    }
    wait_for_readers();
    for key in exact.iter().filter(|k| dead(k.policy, k.generation)) {
        maps.exact.remove(key)?;
    }
    for key in prefixes {
        let policy = PolicyId(u32::from_be_bytes(key.data.policy));
        let generation = Generation(u32::from_be_bytes(key.data.generation));
        if dead(policy, generation) {
            maps.prefixes.remove(&key)?;
        }
    }
    for key in names {
        let policy = PolicyId(u32::from_be_bytes(key.data.policy));
        let generation = Generation(u32::from_be_bytes(key.data.generation));
        if dead(policy, generation) {
            maps.names.remove(&key)?;
        }
    }
    for key in live.iter().filter(|k| dead(k.policy, k.generation)) {
        maps.live.remove(key)?;
    }
    for key in limits.iter().filter(|k| dead(k.policy, k.generation)) {
        maps.limits.remove(key)?;
    }
    for key in unix_doors.iter().filter(|k| dead(k.policy, k.generation)) {
        maps.unix_doors.remove(key)?;
    }
    Ok(())
}
