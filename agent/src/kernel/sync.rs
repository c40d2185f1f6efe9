//! Brings policies into the kernel: every rule under a new generation first, then one store a
//! policy that puts the generation in force, then, when no decision can still read it, the old one
//! is removed. At no instant do rules of two generations mix.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{
    id::{Generation, PolicyId, RuleId, SessionId},
    layout::{Config, ExactKey, Limits, LimitsKey, LiveKey, PolicyWord, PrefixData, PrefixKey},
    limits::{LIVE_RULES_MAX, POLICIES_MAX, PREFIXES_MAX},
    rule::RuleSet,
};

use super::{Inner, error::Error, maps::Maps};
use crate::{
    policy::compiled::{CompiledPolicy, Egress, TableEntry},
    sys::{bpf::Write, membarrier},
};

/// Bits of a whole address.
const ADDRESS_BITS: u8 = 128;
/// How long an old generation stays where the kernel can not say that nobody reads it.
const GRACE: Duration = Duration::from_millis(200);

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

/// All keys that one generation of one policy has in the kernel.
#[derive(Debug)]
struct MapPlan<'a> {
    policy: PolicyId,
    generation: Generation,
    exact: Vec<&'a TableEntry>,
    prefixes: Vec<&'a TableEntry>,
    live: BTreeSet<RuleId>,
    limits: Option<Limits>,
}

impl<'a> MapPlan<'a> {
    fn new(policy: PolicyId, generation: Generation, egress: &'a Egress) -> Self {
        let (exact, prefixes) = egress
            .table
            .iter()
            .partition(|entry| entry.prefix.length == ADDRESS_BITS);
        let live = egress.table.iter().flat_map(|entry| rules_of(&entry.set));
        let limits = Limits {
            connections: egress.limits.connections,
            bytes_out: egress.limits.bytes_out,
        };
        Self {
            policy,
            generation,
            exact,
            prefixes,
            live: live.collect(),
            limits: is_limited(egress).then_some(limits),
        }
    }

    fn write(&self, maps: &Maps) -> Result<(), Error> {
        for entry in &self.exact {
            maps.exact
                .write(&self.exact_key(entry), &entry.set, Write::New)?;
        }
        for entry in &self.prefixes {
            maps.prefixes
                .write(&self.prefix_key(entry), &entry.set, Write::New)?;
        }
        for rule in &self.live {
            maps.live.write(&self.live_key(*rule), &1, Write::New)?;
        }
        if let Some(limits) = &self.limits {
            maps.limits.write(&self.limits_key(), limits, Write::New)?;
        }
        Ok(())
    }

    fn remove(&self, maps: &Maps) -> Result<(), Error> {
        for entry in &self.exact {
            maps.exact.remove(&self.exact_key(entry))?;
        }
        for entry in &self.prefixes {
            maps.prefixes.remove(&self.prefix_key(entry))?;
        }
        for rule in &self.live {
            maps.live.remove(&self.live_key(*rule))?;
        }
        maps.limits.remove(&self.limits_key())?;
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            exact: self.exact.len(),
            prefixes: self.prefixes.len(),
            live: self.live.len(),
            limited: self.limits.is_some(),
        }
    }

    fn exact_key(&self, entry: &TableEntry) -> ExactKey {
        ExactKey {
            policy: self.policy,
            generation: self.generation,
            address: entry.prefix.network,
        }
    }

    fn prefix_key(&self, entry: &TableEntry) -> PrefixKey {
        PrefixKey {
            length: PrefixData::SCOPE_BITS + u32::from(entry.prefix.length),
            data: PrefixData::new(self.policy, self.generation, entry.prefix.network),
        }
    }

    fn live_key(&self, rule: RuleId) -> LiveKey {
        LiveKey {
            policy: self.policy,
            generation: self.generation,
            rule,
        }
    }

    fn limits_key(&self) -> LimitsKey {
        LimitsKey {
            policy: self.policy,
            generation: self.generation,
        }
    }
}

fn rules_of(set: &RuleSet) -> impl Iterator<Item = RuleId> + '_ {
    set.ranges
        .iter()
        .take(set.count as usize)
        .map(|range| range.rule)
}

fn is_limited(egress: &Egress) -> bool {
    egress.limits.connections != u64::MAX || egress.limits.bytes_out != u64::MAX
}

/// What is in force, as the agent remembers it.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Published {
    policies: BTreeMap<PolicyId, (Generation, Sizes, Arc<CompiledPolicy>)>,
    cleaning: Vec<Cleaning>,
    /// Whether what an earlier agent left in the maps has been dealt with.
    inherited_is_gone: bool,
}

/// Old generations on their way out.
#[derive(Debug)]
struct Cleaning {
    thread: thread::JoinHandle<()>,
    entries: usize,
    rules: usize,
}

/// What one policy takes in the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kernel) struct Sizes {
    pub(in crate::kernel) exact: usize,
    pub(in crate::kernel) prefixes: usize,
    pub(in crate::kernel) live: usize,
    pub(in crate::kernel) limited: bool,
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
    let mut published = inner.published();
    let wanted = slots(policies)?;
    let inherits = !published.inherited_is_gone;
    if inherits {
        disown_sessions(&inner.maps)?;
    }
    let begin = Instant::now();
    let plans = plans(inner, &published, &wanted)?;
    make_room(&mut published, &plans);
    write_all(&inner.maps, &plans)?;
    let publish = begin.elapsed();

    let removed: Vec<PolicyId> = inner
        .policies_in_force()
        .filter(|id| !wanted.contains_key(id))
        .collect();
    let begin = Instant::now();
    for plan in &plans {
        if let Some(policy) = wanted.get(&plan.policy) {
            let word = PolicyWord::new(plan.generation, policy.mode, plan.limits.is_some());
            store(inner, plan.policy, word);
        }
    }
    for id in &removed {
        store(inner, *id, PolicyWord(0));
    }
    let flip = begin.elapsed();

    let changed: BTreeSet<PolicyId> = plans.iter().map(|p| p.policy).chain(removed).collect();
    let fresh: BTreeMap<PolicyId, (Generation, Sizes)> = plans
        .iter()
        .map(|plan| (plan.policy, (plan.generation, plan.sizes())))
        .collect();
    drop(plans);
    let retired = take_over(&mut published, wanted, &fresh);
    if inherits {
        purge(inner)?;
        published.inherited_is_gone = true;
    }
    clean_later(inner, &mut published, retired)?;
    Ok(Synced {
        generations: published
            .policies
            .iter()
            .map(|(id, (generation, _, _))| (*id, *generation))
            .collect(),
        changed,
        publish,
        flip,
    })
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
}

/// Waits for generations that are still being removed where a new one might not fit beside them.
fn make_room(published: &mut Published, plans: &[MapPlan<'_>]) {
    published.cleaning.retain(|old| !old.thread.is_finished());
    let sizes = published.sizes().chain(plans.iter().map(MapPlan::sizes));
    let (mut entries, mut rules) = (0, 0);
    for size in sizes {
        entries += size.exact + size.prefixes;
        rules += size.live;
    }
    for old in &published.cleaning {
        entries += old.entries;
        rules += old.rules;
    }
    let fits = entries <= PREFIXES_MAX as usize && rules <= LIVE_RULES_MAX as usize;
    if fits && published.cleaning.len() < CLEANING_MAX {
        return;
    }
    for old in published.cleaning.drain(..) {
        if old.thread.join().is_err() {
            tracing::error!("removing an old generation panicked");
        }
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

fn store(inner: &Inner, policy: PolicyId, word: PolicyWord) {
    if !inner.maps.words.store(policy.0, word.0) {
        // `slots` has checked every id against the table's size.
        tracing::error!(policy.id = policy.0, "policy slot beyond the table");
    }
}

/// Remembers what is in force now; returns what no longer is.
fn take_over(
    published: &mut Published,
    wanted: BTreeMap<PolicyId, Arc<CompiledPolicy>>,
    fresh: &BTreeMap<PolicyId, (Generation, Sizes)>,
) -> Vec<(PolicyId, Generation, Arc<CompiledPolicy>)> {
    let mut old = std::mem::take(&mut published.policies);
    for (id, policy) in wanted {
        let kept = || old.remove(&id).map(|(g, sizes, _)| (g, sizes));
        if let Some((generation, sizes)) = fresh.get(&id).copied().or_else(kept) {
            published.policies.insert(id, (generation, sizes, policy));
        }
    }
    old.into_iter()
        .map(|(id, (generation, _, policy))| (id, generation, policy))
        .collect()
}

fn clean_later(
    inner: &Arc<Inner>,
    published: &mut Published,
    retired: Vec<(PolicyId, Generation, Arc<CompiledPolicy>)>,
) -> Result<(), Error> {
    if retired.is_empty() {
        return Ok(());
    }
    let egress = || retired.iter().map(|(_, _, policy)| &policy.egress);
    let entries = egress().map(|egress| egress.table.len()).sum();
    let rules = egress().map(|egress| egress.rules.len()).sum();
    let inner = Arc::clone(inner);
    let thread = thread::Builder::new()
        .name("kernel-clean".to_owned())
        .spawn(move || {
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
    published.cleaning.push(Cleaning {
        thread,
        entries,
        rules,
    });
    Ok(())
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
fn disown_sessions(maps: &Maps) -> Result<(), Error> {
    for cgroup in maps.workers.keys()? {
        maps.workers.remove(&cgroup)?;
    }
    for session in maps.usage.keys()? {
        if session != SessionId(0) {
            maps.usage.remove(&session)?;
        }
    }
    Ok(())
}

/// Removes every element of a generation that is not in force: what an earlier agent published,
/// wholly or in part.
fn purge(inner: &Inner) -> Result<(), Error> {
    let maps = &inner.maps;
    let dead = |policy: PolicyId, generation: Generation| {
        inner.word(policy).generation() != Some(generation)
    };
    let (exact, live, limits) = (maps.exact.keys()?, maps.live.keys()?, maps.limits.keys()?);
    let prefixes = maps.prefixes.keys()?;
    if exact.is_empty() && live.is_empty() && limits.is_empty() && prefixes.is_empty() {
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
    for key in live.iter().filter(|k| dead(k.policy, k.generation)) {
        maps.live.remove(key)?;
    }
    for key in limits.iter().filter(|k| dead(k.policy, k.generation)) {
        maps.limits.remove(key)?;
    }
    Ok(())
}
