//! Brings policies into the kernel: every rule under a new generation first, then one store a
//! policy that puts the generation in force, then, when no decision can still read it, the old one
//! is removed. At no instant do rules of two generations mix.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    id::{Generation, PolicyId, RuleId},
    layout::{Config, PolicyWord},
    limits::{LIVE_RULES_MAX, NAMES_MAX, POLICIES_MAX, PREFIXES_MAX},
};

use super::{
    Inner,
    clean::{self, Cleaning, Ready, Retired},
    error::Error,
    maps::Maps,
    plan::{MapPlan, Sizes},
};
use crate::{
    policy::compiled::{CompiledPolicy, Target},
    sys::bpf_map::Write,
};

/// Old generations that may be on their way out at once.
const CLEANING_MAX: usize = 32;

/// A policy and the slot it has in the kernel.
#[derive(Clone, Debug)]
pub struct PolicyInForce {
    /// Its slot: 1 to [`POLICIES_MAX`] - 1.
    pub id: PolicyId,
    /// The policy.
    pub policy: Arc<CompiledPolicy>,
}

/// Proof that a set of policies is in force in the kernel.
#[derive(Clone, Debug)]
#[must_use]
pub struct Synced {
    generations: BTreeMap<PolicyId, Generation>,
    changed: BTreeSet<PolicyId>,
    publish: Duration,
    flip: Duration,
}

impl Synced {
    /// The generation of a policy.
    #[must_use]
    pub fn generation(&self, policy: PolicyId) -> Option<Generation> {
        self.generations.get(&policy).copied()
    }

    /// The generation of every policy in force.
    pub fn generations(&self) -> impl Iterator<Item = (PolicyId, Generation)> + '_ {
        self.generations.iter().map(|(id, g)| (*id, *g))
    }

    /// Policies whose rules changed or that were removed: their sessions' sockets are to be swept.
    pub fn changed(&self) -> impl Iterator<Item = PolicyId> + '_ {
        self.changed.iter().copied()
    }

    /// How long it took to write the rules.
    #[must_use]
    pub fn publish_duration(&self) -> Duration {
        self.publish
    }

    /// How long it took to put them in force, all policies together.
    #[must_use]
    pub fn flip_duration(&self) -> Duration {
        self.flip
    }
}

/// What is in force, as the agent remembers it.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Published {
    policies: BTreeMap<PolicyId, (Generation, Sizes, Arc<CompiledPolicy>)>,
    cleaning: Vec<Cleaning>,
    /// Whether the sessions of an earlier agent are forgotten. Once only: later they would be this
    /// agent's.
    sessions_are_own: bool,
    /// Whether what an earlier agent left in the tables is removed.
    tables_are_own: bool,
}

impl Published {
    /// What each policy in force takes.
    pub(in crate::kernel) fn sizes(&self) -> impl Iterator<Item = Sizes> + '_ {
        self.policies.values().map(|(_, sizes, _)| *sizes)
    }

    /// Each policy in force.
    pub(in crate::kernel) fn policies(&self) -> BTreeMap<PolicyId, Arc<CompiledPolicy>> {
        let policies = self.policies.iter();
        policies
            .map(|(id, (_, _, p))| (*id, Arc::clone(p)))
            .collect()
    }
}

/// Puts exactly these policies in force. On failure nothing has changed.
pub(in crate::kernel) fn sync(
    inner: &Arc<Inner>,
    policies: &[PolicyInForce],
) -> Result<Synced, Error> {
    sync_with(inner, policies, clean::prepare)
}

/// The same; `prepare` gets ready what removes the old generations. Everything that can fail comes before
/// the first store: whoever gets an error takes the old set to be in force.
pub(in crate::kernel) fn sync_with(
    inner: &Arc<Inner>,
    policies: &[PolicyInForce],
    prepare: impl FnOnce(&Arc<Inner>, Vec<Retired>) -> Result<Ready, Error>,
) -> Result<Synced, Error> {
    let mut published = inner.published();
    let wanted = slots(policies)?;
    if !published.sessions_are_own {
        clean::disown_sessions(&inner.maps, &inner.kept(&wanted)?)?;
    }
    let begin = Instant::now();
    let plans = plans(inner, &published, &wanted)?;
    make_room(&mut published, &plans);
    let fresh: BTreeMap<PolicyId, (Generation, Sizes)> = plans
        .iter()
        .map(|plan| (plan.policy, (plan.generation, plan.sizes())))
        .collect();
    let retired = retired(&published, &wanted, &fresh);
    let cleaning = if retired.is_empty() {
        None
    } else {
        Some(prepare(inner, retired)?)
    };
    write_all(&inner.maps, &plans)?;
    let publish = begin.elapsed();

    let removed: Vec<PolicyId> = inner
        .policies_in_force()
        .filter(|id| !wanted.contains_key(id))
        .collect();
    let begin = Instant::now();
    put_in_force(inner, &wanted, &plans, &removed);
    let flip = begin.elapsed();

    drop(plans);
    published.sessions_are_own = true;
    take_over(&mut published, wanted, &fresh);
    published.cleaning.extend(cleaning.map(Ready::begin));
    purge(inner, &mut published);
    Ok(Synced {
        generations: published
            .policies
            .iter()
            .map(|(id, (generation, _, _))| (*id, *generation))
            .collect(),
        changed: fresh.into_keys().chain(removed).collect(),
        publish,
        flip,
    })
}

/// One store a policy.
fn put_in_force(
    inner: &Inner,
    wanted: &BTreeMap<PolicyId, Arc<CompiledPolicy>>,
    plans: &[MapPlan<'_>],
    removed: &[PolicyId],
) {
    for plan in plans {
        if let Some(policy) = wanted.get(&plan.policy) {
            let word = PolicyWord::new(plan.generation, policy.mode, plan.sizes().limited)
                .with_unix_names(policy.syscalls.profile.has_unix_names());
            store(inner, plan.policy, word);
        }
    }
    for id in removed {
        store(inner, *id, PolicyWord(0));
    }
}

/// Removes what an earlier agent published. What can not be removed takes room and decides nothing: the
/// next push tries again.
fn purge(inner: &Inner, published: &mut Published) {
    if published.tables_are_own {
        return;
    }
    match clean::purge(inner) {
        Ok(()) => published.tables_are_own = true,
        Err(error) => tracing::error!(%error, "generations of an earlier agent stay"),
    }
}

fn slots(policies: &[PolicyInForce]) -> Result<BTreeMap<PolicyId, Arc<CompiledPolicy>>, Error> {
    let mut slots = BTreeMap::new();
    for PolicyInForce { id, policy } in policies {
        let free = id.0 > 0 && id.0 < POLICIES_MAX;
        if !free || slots.insert(*id, Arc::clone(policy)).is_some() {
            return Err(Error::PolicySlot(*id));
        }
    }
    Ok(slots)
}

/// A plan for each policy whose rules are new. One whose rules are the same keeps its generation,
/// and its sockets their verified state.
fn plans<'a>(
    inner: &Inner,
    published: &Published,
    wanted: &'a BTreeMap<PolicyId, Arc<CompiledPolicy>>,
) -> Result<Vec<MapPlan<'a>>, Error> {
    wanted
        .iter()
        .filter(|(id, policy)| {
            published
                .policies
                .get(id)
                .is_none_or(|(_, _, old)| !same_rules(old, policy))
        })
        .map(|(id, policy)| {
            let generation = next_generation(&inner.maps)?;
            Ok(MapPlan::new(*id, generation, &policy.egress))
        })
        .collect()
}

/// A generation that no policy has ever had, whichever agent gave it.
fn next_generation(maps: &Maps) -> Result<Generation, Error> {
    let slot = Config::LastGeneration as u32;
    let next = maps.config.read(&slot)?.unwrap_or(0).saturating_add(1);
    let generation = u32::try_from(next).map_err(|_too_many| Error::Full {
        name: maps.config.name,
        capacity: u32::MAX,
    })?;
    maps.config.write(&slot, &next, Write::Any)?;
    Ok(Generation(generation))
}

fn same_rules(old: &CompiledPolicy, new: &CompiledPolicy) -> bool {
    old.mode == new.mode
        && old.egress.limits == new.egress.limits
        && old.egress.table == new.egress.table
        && old.egress.names.entries() == new.egress.names.entries()
        && old.syscalls.profile.has_unix_names() == new.syscalls.profile.has_unix_names()
        && rules_by_name(old).eq(rules_by_name(new))
}

/// The rules that stand in no table of addresses: those of domains (a grant is worth something while
/// its rule is part of a generation) and of unix sockets.
fn rules_by_name(policy: &CompiledPolicy) -> impl Iterator<Item = RuleId> + '_ {
    let rules = policy.egress.rules.iter();
    rules
        .filter(|rule| !matches!(rule.target, Target::Prefix(_)))
        .map(|rule| rule.id)
}

/// Waits for generations that are still being removed where a new one might not fit beside them.
fn make_room(published: &mut Published, plans: &[MapPlan<'_>]) {
    published.cleaning.retain(|old| !old.is_over());
    let sizes = published.sizes().chain(plans.iter().map(MapPlan::sizes));
    let (mut entries, mut names, mut rules) = (0, 0, 0);
    for size in sizes {
        entries += size.exact + size.prefixes;
        names += size.names;
        rules += size.live;
    }
    for old in &published.cleaning {
        let (old_entries, old_names, old_rules) = old.sizes();
        entries += old_entries;
        names += old_names;
        rules += old_rules;
    }
    let fits = entries <= PREFIXES_MAX as usize
        && names <= NAMES_MAX as usize
        && rules <= LIVE_RULES_MAX as usize;
    if fits && published.cleaning.len() < CLEANING_MAX {
        return;
    }
    for old in published.cleaning.drain(..) {
        old.wait();
    }
}

/// Writes all plans, or removes what was written.
fn write_all(maps: &Maps, plans: &[MapPlan<'_>]) -> Result<(), Error> {
    for (written, plan) in plans.iter().enumerate() {
        if let Err(error) = plan.write(maps) {
            for plan in plans.iter().take(written + 1) {
                if let Err(error) = plan.remove(maps) {
                    tracing::error!(%error, "a refused generation could not be removed");
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

impl Inner {
    /// From now on a packet of this policy is asked whether its session still is.
    pub(in crate::kernel) fn mark_left(&self, policy: PolicyId) {
        // Nobody puts another generation in force meanwhile.
        let _published = self.published();
        let word = self.word(policy);
        if word.generation().is_some() {
            store(self, policy, word.with_left());
        }
    }
}

fn store(inner: &Inner, policy: PolicyId, word: PolicyWord) {
    if !inner.maps.words.store(policy.0, word.0) {
        // `slots` has checked every id against the table's size.
        tracing::error!(policy.id = policy.0, "policy slot beyond the table");
    }
}

/// What is in force and will not be.
fn retired(
    published: &Published,
    wanted: &BTreeMap<PolicyId, Arc<CompiledPolicy>>,
    fresh: &BTreeMap<PolicyId, (Generation, Sizes)>,
) -> Vec<Retired> {
    let known = published.policies.iter();
    known
        .filter(|(id, _)| !wanted.contains_key(id) || fresh.contains_key(id))
        .map(|(id, (generation, _, policy))| (*id, *generation, Arc::clone(policy)))
        .collect()
}

/// Remembers what is in force now.
fn take_over(
    published: &mut Published,
    wanted: BTreeMap<PolicyId, Arc<CompiledPolicy>>,
    fresh: &BTreeMap<PolicyId, (Generation, Sizes)>,
) {
    let mut old = std::mem::take(&mut published.policies);
    for (id, policy) in wanted {
        let kept = || old.remove(&id).map(|(g, sizes, _)| (g, sizes));
        if let Some((generation, sizes)) = fresh.get(&id).copied().or_else(kept) {
            published.policies.insert(id, (generation, sizes, policy));
        }
    }
}
