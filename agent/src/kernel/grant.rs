//! Grants: addresses that the resolver has told a session, and what the rules of their names open
//! there, each with an end.
//!
//! The kernel reads them at every decision; this side bounds them and takes out what has ended. It
//! knows rule ids and port ranges, no names.

mod error;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, MutexGuard, PoisonError},
};

use common::{
    flow::Address,
    id::{Generation, PolicyId, SessionId},
    layout::{GrantKey, LiveKey},
    limits::{GRANTS_MAX, GRANTS_PER_ADDRESS_MAX, GRANTS_PER_SESSION_MAX},
    rule::{Grant, GrantSet, PortRange},
};

pub use self::error::{GrantError, Scope};
use super::{Inner, error::Error, maps::Maps};
use crate::{clock::BootTime, sys::bpf_map::Write};

const _: () = assert!(GRANTS_PER_SESSION_MAX <= GRANTS_MAX);

/// The grants of every session. A clone is the same.
#[derive(Clone, Debug)]
pub struct Grants {
    inner: Arc<Inner>,
}

/// What the agent remembers of the grants in the kernel: enough to bound them and to find them.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Index {
    sessions: BTreeMap<SessionId, Held>,
    /// Addresses of all sessions.
    count: usize,
    /// How often there was no room.
    refused: u64,
}

/// The grants of one session.
#[derive(Debug)]
struct Held {
    policy: PolicyId,
    /// When the last grant of each address ends.
    ends: HashMap<Address, BootTime>,
    /// No address ends before this: a full session is not searched again until then.
    first_end: BootTime,
    /// The generation in which addresses of dropped rules were taken out last.
    cleared: Generation,
}

/// What a grant goes into: the kernel's maps and the words of policies.
struct Place<'a> {
    inner: &'a Inner,
    policy: PolicyId,
    generation: Generation,
}

impl Grants {
    pub(in crate::kernel) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
        }
    }

    /// Opens these ranges on an address for a session until an instant, or prolongs what is open;
    /// never shortens. All ranges or none. Returns when the kernel has it.
    ///
    /// What has ended and what belongs to dropped rules makes room.
    pub fn give(
        &self,
        session: SessionId,
        address: Address,
        ranges: &[PortRange],
        expires: BootTime,
    ) -> Result<(), GrantError> {
        let given = self
            .index()
            .give(&self.inner, session, address, ranges, expires);
        if matches!(given, Err(GrantError::Full { .. })) {
            let mut index = self.index();
            index.refused = index.refused.saturating_add(1);
        }
        given
    }

    /// What a session holds, ended grants included that nobody has taken out yet.
    #[must_use]
    pub fn of_session(&self, session: SessionId) -> Vec<(Address, GrantSet)> {
        let index = self.index();
        let addresses = index.sessions.get(&session).into_iter();
        let addresses = addresses.flat_map(|held| held.ends.keys().copied());
        let mut all: Vec<(Address, GrantSet)> = addresses
            .filter_map(|address| {
                let key = GrantKey { session, address };
                // What can not be read is not shown; the lookups of the kernel do not depend on it.
                let set = self.inner.maps.grants.read(&key).ok().flatten()?;
                Some((address, set))
            })
            .collect();
        all.sort_unstable_by_key(|(address, _)| *address);
        all
    }

    /// What a session holds for one address.
    pub fn at(&self, session: SessionId, address: Address) -> Result<Option<GrantSet>, Error> {
        let key = GrantKey { session, address };
        self.inner.maps.grants.read(&key)
    }

    /// Takes out all that a session holds; it is given nothing any more.
    pub fn forget(&self, session: SessionId) {
        self.inner.forget_grants(session);
    }

    /// Takes out the addresses of which every grant has ended; says how many.
    pub fn sweep(&self, now: BootTime) -> usize {
        let mut index = self.index();
        let before = index.count;
        let Index {
            sessions, count, ..
        } = &mut *index;
        for (session, held) in sessions {
            held.drop_ended(&self.inner.maps, *session, now, count);
        }
        before.saturating_sub(index.count)
    }

    /// Addresses with grants, of all sessions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.index().count
    }

    /// How often there was no room for a grant.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.index().refused
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.grants()
    }
}

impl Inner {
    pub(in crate::kernel) fn grants(&self) -> MutexGuard<'_, Index> {
        // Every change of the index follows that of the map: a panic leaves at most one address
        // uncounted.
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins to be given grants.
    pub(in crate::kernel) fn expect_grants(&self, session: SessionId, policy: PolicyId) {
        let held = Held {
            policy,
            ends: HashMap::new(),
            first_end: BootTime(u64::MAX),
            cleared: Generation(0),
        };
        self.grants().sessions.insert(session, held);
    }

    pub(in crate::kernel) fn forget_grants(&self, session: SessionId) {
        let mut index = self.grants();
        let Some(held) = index.sessions.remove(&session) else {
            return;
        };
        for address in held.ends.keys() {
            remove(&self.maps, session, *address);
        }
        index.count = index.count.saturating_sub(held.ends.len());
    }
}

impl Index {
    /// Addresses of all sessions.
    pub(in crate::kernel) fn count(&self) -> usize {
        self.count
    }

    fn give(
        &mut self,
        inner: &Inner,
        session: SessionId,
        address: Address,
        ranges: &[PortRange],
        expires: BootTime,
    ) -> Result<(), GrantError> {
        let now = BootTime::now();
        let Self {
            sessions, count, ..
        } = self;
        let Some(held) = sessions.get_mut(&session) else {
            return Err(GrantError::NoSession(session));
        };
        let place = Place {
            inner,
            policy: held.policy,
            generation: inner.word(held.policy).generation().unwrap_or_default(),
        };
        let is_new = !held.ends.contains_key(&address);
        if is_new {
            held.make_room(&place, session, now, count)?;
        }
        if is_new && *count >= GRANTS_MAX as usize {
            for (session, held) in &mut *sessions {
                held.drop_ended(&inner.maps, *session, now, count);
            }
            if *count >= GRANTS_MAX as usize {
                return Err(full(Scope::Agent));
            }
        }
        let key = GrantKey { session, address };
        let old = inner.maps.grants.read(&key)?.unwrap_or_default();
        let set = place.merged(&old, ranges, expires, now)?;
        match inner.maps.grants.write(&key, &set, Write::Any) {
            Err(Error::Full { .. }) => return Err(full(Scope::Agent)),
            other => other?,
        }
        let Some(held) = sessions.get_mut(&session) else {
            return Err(GrantError::NoSession(session));
        };
        let end = grants_of(&set).map(|grant| grant.expires_ns).max();
        let end = BootTime(end.unwrap_or(0));
        held.first_end = held.first_end.min(end);
        if held.ends.insert(address, end).is_none() {
            *count += 1;
        }
        Ok(())
    }
}

impl Held {
    /// Makes room for one more address, or says that there is none.
    fn make_room(
        &mut self,
        place: &Place<'_>,
        session: SessionId,
        now: BootTime,
        count: &mut usize,
    ) -> Result<(), GrantError> {
        let is_full = |held: &Self| held.ends.len() >= GRANTS_PER_SESSION_MAX as usize;
        if !is_full(self) {
            return Ok(());
        }
        let maps = &place.inner.maps;
        self.drop_ended(maps, session, now, count);
        if is_full(self) && self.cleared != place.generation {
            // Once a generation: it reads every set.
            self.cleared = place.generation;
            let before = self.ends.len();
            self.ends.retain(|address, _| {
                let key = GrantKey {
                    session,
                    address: *address,
                };
                let lives = match maps.grants.read(&key) {
                    Ok(Some(set)) => grants_of(&set).any(|grant| place.lives(grant)),
                    Ok(None) => false,
                    Err(_) => true,
                };
                lives || !remove(maps, session, *address)
            });
            *count = count.saturating_sub(before.saturating_sub(self.ends.len()));
        }
        if is_full(self) {
            return Err(full(Scope::Session));
        }
        Ok(())
    }

    /// Takes out the addresses of which every grant has ended.
    fn drop_ended(&mut self, maps: &Maps, session: SessionId, now: BootTime, count: &mut usize) {
        if now < self.first_end {
            return;
        }
        let before = self.ends.len();
        self.ends
            .retain(|address, end| *end > now || !remove(maps, session, *address));
        *count = count.saturating_sub(before.saturating_sub(self.ends.len()));
        let first = self.ends.values().copied().min();
        self.first_end = first.unwrap_or(BootTime(u64::MAX));
    }
}

impl Place<'_> {
    /// A set with these ranges in it until `expires`. Equal ranges are prolonged; the rest takes free
    /// places, then those of grants that have ended or whose rule is gone.
    fn merged(
        &self,
        old: &GrantSet,
        ranges: &[PortRange],
        expires: BootTime,
        now: BootTime,
    ) -> Result<GrantSet, GrantError> {
        let mut grants: Vec<Grant> = grants_of(old).copied().collect();
        for range in ranges {
            let same = grants.iter_mut().find(|grant| grant.range == *range);
            if let Some(same) = same {
                same.expires_ns = same.expires_ns.max(expires.0);
            } else {
                grants.push(Grant {
                    range: *range,
                    expires_ns: expires.0,
                });
            }
        }
        if grants.len() > GRANTS_PER_ADDRESS_MAX {
            grants.retain(|grant| grant.expires_ns > now.0);
        }
        if grants.len() > GRANTS_PER_ADDRESS_MAX {
            grants.retain(|grant| ranges.contains(&grant.range) || self.lives(grant));
        }
        let mut set = GrantSet {
            count: u32::try_from(grants.len()).unwrap_or(u32::MAX),
            ..GrantSet::default()
        };
        if grants.len() > set.grants.len() {
            return Err(full(Scope::Address));
        }
        for (slot, grant) in set.grants.iter_mut().zip(grants) {
            *slot = grant;
        }
        Ok(set)
    }

    /// Whether a grant's rule is part of the generation in force. One that can not be looked up is
    /// taken to be.
    fn lives(&self, grant: &Grant) -> bool {
        let key = LiveKey {
            policy: self.policy,
            generation: self.generation,
            rule: grant.range.rule,
        };
        !matches!(self.inner.maps.live.read(&key), Ok(None))
    }
}

/// The grants of a set that are in use.
pub(in crate::kernel) fn grants_of(set: &GrantSet) -> impl Iterator<Item = &Grant> {
    set.grants.iter().take(set.count as usize)
}

fn full(scope: Scope) -> GrantError {
    GrantError::Full { scope }
}

/// Whether the address is out of the map.
fn remove(maps: &Maps, session: SessionId, address: Address) -> bool {
    match maps.grants.remove(&GrantKey { session, address }) {
        Ok(_was_there) => true,
        Err(error) => {
            tracing::error!(%error, session.id = session.0, "a grant that has ended stays");
            false
        }
    }
}
