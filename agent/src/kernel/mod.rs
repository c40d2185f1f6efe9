//! The agent's side of the kernel: loads the programs, brings policies into their maps, attaches
//! them to the parent cgroup, hears what they decide.
//!
//! The order is in the types: [`Kernel::attach`] demands a [`sync::Synced`], and only an
//! [`attach::Attached`] admits a session. `kernel` knows compiled policies, no files; and it starts
//! no process.

pub mod attach;
mod btf;
pub mod cgroup;
mod clean;
pub mod clients;
pub mod closing;
pub mod cuts;
pub mod error;
pub mod flows;
pub mod grant;
pub mod lines;
mod load;
mod locals;
mod maps;
pub mod measure;
mod object;
mod others;
pub mod outpost;
pub mod pin;
mod plan;
pub mod probe;
pub mod ring;
mod standing;
pub mod sync;
mod unix;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use common::{
    id::{CgroupId, PolicyId, SessionId},
    layout::{Config, CounterKey, PolicyWord, TALLIES, Usage},
    limits::POLICIES_MAX,
};

pub use self::{
    attach::{Admitted, Attached},
    error::Error,
    locals::{LocalAddresses, Locals},
    pin::{prepare_pins, remove_pins},
    standing::Standing,
    sync::{PolicyInForce, Synced},
};
use self::{
    load::{Loaded, LoadedProgram},
    maps::Maps,
    pin::PinFolder,
};
use crate::{
    config::{Instance, KernelLog},
    policy::compiled::CompiledPolicy,
    sys::{bpf_map::Write, netns},
};

/// The resolver's port is below this (`IPPORT_RESERVED`, the kernel's own default bound).
pub const RESOLVER_PORT_END: u16 = 1024;

/// The loaded programs and their maps.
#[derive(Debug)]
pub struct Kernel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    maps: Maps,
    programs: Vec<LoadedProgram>,
    /// Whether the hooks on unix sockets are among them.
    unix_hooks: bool,
    pins: PinFolder,
    /// Folder of the parent cgroup.
    parent: PathBuf,
    published: Mutex<sync::Published>,
    grants: Mutex<grant::Index>,
    outposts: outpost::Outposts,
    /// Cookie of the agent's network namespace.
    netns: u64,
    /// Port of the resolver, as the programs have it.
    resolver: AtomicU16,
    /// The programs' own log, until somebody reads it.
    logger: Mutex<Option<lines::Logger>>,
}

/// How full a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapFill {
    /// Its name, lower-case.
    pub name: &'static str,
    /// Elements in it.
    pub entries: usize,
    /// Elements that fit.
    pub capacity: u32,
}

impl Kernel {
    /// Loads the programs. Maps that an earlier agent of this instance pinned are taken over with
    /// what is in them: its fences stand until [`Kernel::sync`] and [`Kernel::attach`] replace them.
    pub fn open(instance: &Instance, parent: &cgroup::Parent) -> Result<Self, Error> {
        Self::open_with_log(instance, parent, KernelLog::Off)
    }

    /// As [`Kernel::open`], with the programs' own log at this level.
    pub fn open_with_log(
        instance: &Instance,
        parent: &cgroup::Parent,
        log: KernelLog,
    ) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let pins = PinFolder::prepare(instance)?;
        let netns = netns::cookie().map_err(|source| Error::Netns {
            action: "asking for its cookie",
            source,
        })?;
        let Loaded {
            maps,
            programs,
            unix_hooks,
            logger,
        } = load::load(&pins, log)?;
        let inner = Inner {
            maps,
            programs,
            unix_hooks,
            pins,
            parent: parent.path().to_owned(),
            published: Mutex::default(),
            grants: Mutex::default(),
            outposts: outpost::Outposts::default(),
            netns,
            resolver: AtomicU16::new(0),
            logger: Mutex::new(logger),
        };
        inner.configure()?;
        let kernel = Self {
            inner: Arc::new(inner),
        };
        kernel.update_local_addresses()?;
        Ok(kernel)
    }

    /// Puts exactly these policies in force. On failure nothing has changed.
    ///
    /// The first call forgets the sessions of an earlier agent: end their processes before it, or
    /// their sockets are refused and destroyed one by one.
    pub fn sync(&self, policies: &[PolicyInForce]) -> Result<Synced, Error> {
        sync::sync(&self.inner, policies)
    }

    /// Puts the hooks on the parent cgroup.
    pub fn attach(&self, parent: &cgroup::Parent, synced: &Synced) -> Result<Attached, Error> {
        attach::attach(&self.inner, parent, synced)
    }

    /// Sessions that the kernel knows, with their cgroups: right after [`Kernel::open`], those of
    /// an earlier agent.
    pub fn sessions(&self) -> Result<Vec<(SessionId, CgroupId)>, Error> {
        let workers = &self.inner.maps.workers;
        let mut sessions = Vec::new();
        for cgroup in workers.keys()? {
            if let Some(worker) = workers.read(&cgroup)? {
                sessions.push((worker.session, CgroupId(cgroup)));
            }
        }
        Ok(sessions)
    }

    /// The events of the programs. One reader at a time: two would share them.
    pub fn events(&self) -> Result<ring::Events, Error> {
        ring::Events::open(self.inner.maps.events()?)
    }

    /// The programs' own log; `None` where it is off or has been taken already.
    pub fn lines(&self) -> Result<Option<lines::Lines>, Error> {
        let logger = self.inner.logger.lock();
        let logger = logger.unwrap_or_else(PoisonError::into_inner).take();
        logger.map(lines::Lines::watch).transpose()
    }

    /// The one who destroys sockets that a policy refuses.
    pub fn destroyer(&self) -> Result<flows::Destroyer, Error> {
        flows::Destroyer::open(&self.inner)
    }

    /// The open flows that other policies would refuse; nothing is changed.
    pub fn cuts(
        &self,
        policies: &BTreeMap<PolicyId, Arc<CompiledPolicy>>,
    ) -> Result<Vec<cuts::Cut>, Error> {
        cuts::of(&self.inner, policies)
    }

    /// The addresses of this host, to be looked up.
    #[must_use]
    pub fn locals(&self) -> Locals {
        Locals::new(&self.inner)
    }

    /// What the resolver has opened to sessions.
    #[must_use]
    pub fn grants(&self) -> grant::Grants {
        grant::Grants::new(&self.inner)
    }

    /// Who turns to the resolver.
    #[must_use]
    pub fn clients(&self) -> clients::Clients {
        clients::Clients::new(&self.inner)
    }

    /// Sends flows of port 53 to this port of 127.0.0.1 and `::1` in the agent's network namespace, of
    /// each session's datagrams as many as `pace` lets through. Until the first call they are refused.
    /// Bind the port before: below [`RESOLVER_PORT_END`], so that no worker can become the resolver.
    pub fn set_resolver(&self, port: u16, pace: clients::Pace) -> Result<(), Error> {
        if port >= RESOLVER_PORT_END {
            return Err(Error::ResolverPort(port));
        }
        // Before the port: nobody turns there unbounded.
        self.inner.set(Config::QuestionNs, pace.each_ns())?;
        self.inner.set(Config::QuestionsAheadNs, pace.ahead_ns())?;
        self.inner.set(Config::ResolverPort, u64::from(port))?;
        self.inner.resolver.store(port, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses flows of port 53.
    pub fn clear_resolver(&self) -> Result<(), Error> {
        self.inner.set(Config::ResolverPort, 0)?;
        self.inner.resolver.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The port of the resolver; 0 while there is none.
    #[must_use]
    pub fn resolver_port(&self) -> u16 {
        self.inner.resolver.load(Ordering::Relaxed)
    }

    /// Every decision since the maps were made, by policy, verdict, reason, protocol and hook.
    pub fn counters(&self) -> Result<Vec<(CounterKey, u64)>, Error> {
        let counters = &self.inner.maps.counters;
        let failed = |source| Error::Map {
            name: counters.name,
            source,
        };
        let mut all = Vec::new();
        for key in counters.table.keys().map_err(failed)? {
            if let Some(count) = counters.table.sum(&key).map_err(failed)? {
                all.push((key, count));
            }
        }
        Ok(all)
    }

    /// What was lost, by [`common::layout::Tally`].
    pub fn tallies(&self) -> Result<[u64; TALLIES as usize], Error> {
        let tallies = &self.inner.maps.tallies;
        let mut all = [0; TALLIES as usize];
        for (slot, count) in (0..TALLIES).zip(&mut all) {
            let sum = tallies.table.sum(&slot).map_err(|source| Error::Map {
                name: tallies.name,
                source,
            })?;
            *count = sum.unwrap_or(0);
        }
        Ok(all)
    }

    /// How full the maps are that can become full. Of the tables of rules, what is in force.
    pub fn map_fill(&self) -> Result<Vec<MapFill>, Error> {
        let maps = &self.inner.maps;
        let published = self.inner.published();
        let (mut exact, mut prefixes, mut names, mut live, mut limits) = (0, 0, 0, 0, 0);
        let mut unix_doors = 0;
        for sizes in published.sizes() {
            exact += sizes.exact;
            prefixes += sizes.prefixes;
            names += sizes.names;
            live += sizes.live;
            limits += usize::from(sizes.limited);
            unix_doors += sizes.unix_doors;
        }
        let policies = published.sizes().count();
        drop(published);
        let counters = &maps.counters.table;
        let counted = counters.keys().map_err(|source| Error::Map {
            name: maps.counters.name,
            source,
        })?;
        let fill = |name, entries, capacity| MapFill {
            name,
            entries,
            capacity,
        };
        Ok(vec![
            fill(
                "workers",
                maps.workers.keys()?.len(),
                maps.workers.table.capacity(),
            ),
            fill(
                "usage",
                maps.usage.keys()?.len(),
                maps.usage.table.capacity(),
            ),
            fill(
                "locals",
                maps.locals.keys()?.len(),
                maps.locals.table.capacity(),
            ),
            fill(
                "grants",
                self.inner.grants().count(),
                maps.grants.table.capacity(),
            ),
            fill(
                "clients",
                maps.clients.keys()?.len(),
                maps.clients.table.capacity(),
            ),
            fill("counters", counted.len(), counters.capacity()),
            fill("exact", exact, maps.exact.table.capacity()),
            fill("prefixes", prefixes, maps.prefixes.table.capacity()),
            fill("names", names, maps.names.table.capacity()),
            fill("live", live, maps.live.table.capacity()),
            fill("limits", limits, maps.limits.table.capacity()),
            fill("unix_doors", unix_doors, maps.unix_doors.table.capacity()),
            fill("policies", policies, POLICIES_MAX - 1),
        ])
    }

    /// Brings the table of this host's addresses up to date, once.
    pub fn update_local_addresses(&self) -> Result<(), Error> {
        locals::update(&self.inner.maps)
    }

    /// Keeps the table of this host's addresses up to date.
    pub fn local_addresses(&self) -> Result<LocalAddresses, Error> {
        LocalAddresses::watch(&self.inner)
    }
}

impl Inner {
    /// Tells the programs which network namespace is the agent's and that nobody answers names yet,
    /// and gives sockets without a session a place to count their events.
    fn configure(&self) -> Result<(), Error> {
        self.set(Config::ResolverPort, 0)?;
        self.set(Config::AgentNetns, self.netns)?;
        self.forget_resolvers()?;
        self.maps
            .usage
            .write(&SessionId(0), &Usage::default(), Write::Any)
    }

    fn set(&self, slot: Config, value: u64) -> Result<(), Error> {
        self.maps.config.write(&(slot as u32), &value, Write::Any)
    }

    fn word(&self, policy: PolicyId) -> PolicyWord {
        PolicyWord(self.maps.words.load(policy.0))
    }

    fn published(&self) -> MutexGuard<'_, sync::Published> {
        // A panic while it was held leaves it as consistent as an error does.
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn policies_in_force(&self) -> impl Iterator<Item = PolicyId> + '_ {
        (1..POLICIES_MAX)
            .map(PolicyId)
            .filter(|id| self.word(*id).generation().is_some())
    }

    fn forget(&self, session: SessionId, cgroup: CgroupId) -> Result<(), Error> {
        self.maps.workers.remove(&cgroup.0)?;
        self.maps.usage.remove(&session)?;
        self.forget_grants(session);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
