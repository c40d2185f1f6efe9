//! Outposts: cgroups that somebody else made, each with links of its own to the same programs. A link's
//! pin outlives the agent, so the fence does too.
//!
//! Knows cgroups and sockets, nothing of who asked for a fence.

mod ground;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use common::{
    id::{CgroupId, PolicyId, SessionId},
    layout::{Usage, WORKER_CLOSING, Worker},
};

pub use self::ground::{Ground, Unfit};
use super::{
    Inner, Kernel,
    attach::{Attached, LINK_PREFIX, is_fence, is_wanted, put},
    cgroup,
    error::Error,
    pin,
    unix::UNIX_HOOKS,
};
use crate::{
    policy::compiled::CompiledPolicy,
    sys::{bpf, bpf_map::Write, sock_diag::Diag},
};

/// An outpost of an earlier agent, as that one wrote it down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Earlier {
    /// Its session.
    pub session: SessionId,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The tool of its policy.
    pub tool: String,
}

/// What is remembered of outposts.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Outposts {
    /// Their folders.
    folders: Mutex<BTreeMap<CgroupId, PathBuf>>,
    /// Those of an earlier agent, that go on.
    earlier: Mutex<Vec<Earlier>>,
}

/// What became of the sockets that a cgroup had before its fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleared {
    /// They were destroyed.
    pub destroyed: u32,
    /// They listen, or are not connected: nobody reaches them any more, and they reach nobody.
    pub left: u32,
}

impl Kernel {
    /// Lets the first [`Kernel::sync`] leave these sessions as they are, where their slots have the same
    /// tools as before: what their sockets were allowed goes on while the agent is another one.
    pub fn keep(&self, earlier: Vec<Earlier>) {
        *self.inner.earlier() = earlier;
    }

    /// The resolver listens in the network namespace with this cookie too.
    pub fn set_resolver_in(&self, netns: u64) -> Result<(), Error> {
        self.inner.maps.resolvers.write(&netns, &1, Write::Any)
    }

    /// The resolver does not listen there any more.
    pub fn clear_resolver_in(&self, netns: u64) -> Result<(), Error> {
        self.inner.maps.resolvers.remove(&netns).map(drop)
    }

    /// Cookie of the agent's network namespace.
    #[must_use]
    pub fn netns(&self) -> u64 {
        self.inner.netns
    }
}

impl Attached {
    /// Makes a cgroup known as this session's, then puts the hooks on it. A session that an earlier agent
    /// admitted there goes on; its links get the new programs without a gap.
    pub fn occupy(
        &self,
        session: SessionId,
        ground: &Ground,
        policy: PolicyId,
    ) -> Result<(), Error> {
        if session.0 == 0 {
            return Err(Error::SessionId(session));
        }
        if self.severed.load(Ordering::SeqCst) {
            return Err(Error::Severed);
        }
        let inner = &self.inner;
        let usage = &inner.maps.usage;
        if usage.read(&session)?.is_none() {
            usage.write(&session, &Usage::default(), Write::New)?;
        }
        let worker = Worker {
            session,
            policy,
            flags: 0,
        };
        inner
            .maps
            .workers
            .write(&ground.id().0, &worker, Write::Any)?;
        inner.expect_grants(session, policy);
        inner
            .outposts()
            .insert(ground.id(), ground.path().to_owned());
        let folder = inner.pins.make_outpost(session)?;
        for program in &inner.programs {
            if is_for_outposts(program.hook.name) && is_wanted(program.hook) {
                let path = folder.join(format!("{LINK_PREFIX}{}", program.hook.name));
                put(program.hook, &program.fd, (ground.id(), ground.fd()), &path)?;
            }
        }
        Ok(())
    }

    /// Takes the hooks off, then forgets the session: its processes reach everything again.
    pub fn leave(&self, session: SessionId, cgroup: CgroupId) -> Result<(), Error> {
        for folder in self.inner.pins.outpost_elsewhere(session)? {
            pin::remove_outpost(&folder)?;
        }
        pin::remove_outpost(&self.inner.pins.outpost(session))?;
        self.inner.outposts().remove(&cgroup);
        self.inner
            .drop_clients(|client| client.session == session)?;
        if let Some(worker) = self.inner.maps.workers.read(&cgroup.0)? {
            // Its processes go on, with sockets that were judged.
            self.inner.mark_left(worker.policy);
        }
        self.inner.forget(session, cgroup)
    }

    /// The hooks that ought to be on the cgroup and are not.
    #[must_use]
    pub fn missing(&self, session: SessionId, cgroup: CgroupId) -> Vec<&'static str> {
        let folder = self.inner.pins.outpost(session);
        let hooks = self.inner.programs.iter().map(|program| program.hook);
        let hooks = hooks.filter(|hook| is_for_outposts(hook.name) && is_fence(hook));
        let missing = hooks.filter(|hook| {
            let link = bpf::open_pin(&folder.join(format!("{LINK_PREFIX}{}", hook.name)));
            let info = link.and_then(|link| bpf::link_info(link.as_fd()));
            !info.is_ok_and(|info| info.cgroup == cgroup.0 && info.attach_type == hook.attach_type)
        });
        missing.map(|hook| hook.name).collect()
    }

    /// Whether processes of an outpost may make sockets: not while what they could make of them is more
    /// than a fence holds.
    pub fn allow_sockets(&self, cgroup: CgroupId, allowed: bool) -> Result<(), Error> {
        let workers = &self.inner.maps.workers;
        let Some(worker) = workers.read(&cgroup.0)? else {
            return Ok(());
        };
        let flags = if allowed {
            worker.flags & !WORKER_CLOSING
        } else {
            worker.flags | WORKER_CLOSING
        };
        if flags == worker.flags {
            return Ok(());
        }
        workers.write(&cgroup.0, &Worker { flags, ..worker }, Write::Existing)
    }

    /// Destroys the connected sockets that were made in the cgroup, in one network namespace: the agent's
    /// own, or the one to which the descriptor of a `sock_diag` belongs.
    pub fn clear_sockets(
        &self,
        ground: &Ground,
        foreign: Option<OwnedFd>,
    ) -> Result<Cleared, Error> {
        let failed = |action| move |source| Error::Diag { action, source };
        let mut diag = match foreign {
            Some(fd) => Diag::adopt(fd),
            None => Diag::open().map_err(failed("opening"))?,
        };
        let mut cgroups: BTreeSet<u64> = BTreeSet::from([ground.id().0]);
        cgroups.extend(cgroup::below(ground.path()).into_iter().map(|id| id.0));
        let sockets = diag.list(self.inner.maps.sockets());
        let mut cleared = Cleared::default();
        for socket in sockets.map_err(failed("listing"))? {
            if !socket
                .cgroup
                .is_some_and(|cgroup| cgroups.contains(&cgroup))
            {
                continue;
            }
            let destroyed =
                socket.is_connected() && diag.destroy(&socket).map_err(failed("destroying"))?;
            let count = if destroyed {
                &mut cleared.destroyed
            } else {
                &mut cleared.left
            };
            *count = count.saturating_add(1);
        }
        Ok(cleared)
    }

    /// Sessions whose hooks an earlier agent pinned.
    pub fn outposts(&self) -> Result<Vec<SessionId>, Error> {
        self.inner.pins.outposts()
    }
}

/// Whether a hook is put on outposts too. A service talks to the service manager and the journal by unix
/// sockets, datagrams among them, which no rule can name: those hooks stay with the workers.
fn is_for_outposts(hook: &str) -> bool {
    !UNIX_HOOKS.iter().any(|unix| unix.name == hook)
}

impl Inner {
    /// Whoever listened in other network namespaces was the agent before.
    pub(in crate::kernel) fn forget_resolvers(&self) -> Result<(), Error> {
        let resolvers = &self.maps.resolvers;
        for netns in resolvers.keys()? {
            resolvers.remove(&netns)?;
        }
        Ok(())
    }

    /// The entries of earlier sessions that stay: whose cgroup still has the same session, under a slot
    /// that the same tool gets again.
    pub(in crate::kernel) fn kept(
        &self,
        wanted: &BTreeMap<PolicyId, Arc<CompiledPolicy>>,
    ) -> Result<BTreeMap<CgroupId, Worker>, Error> {
        let mut kept = BTreeMap::new();
        for earlier in self.earlier().iter() {
            let Some(worker) = self.maps.workers.read(&earlier.cgroup.0)? else {
                continue;
            };
            let policy = wanted.get(&worker.policy);
            let same = policy.is_some_and(|policy| policy.tool.as_str() == earlier.tool);
            if worker.session == earlier.session && same {
                kept.insert(earlier.cgroup, worker);
            }
        }
        Ok(kept)
    }

    /// Folders of the outposts, by cgroup.
    pub(in crate::kernel) fn outposts(&self) -> MutexGuard<'_, BTreeMap<CgroupId, PathBuf>> {
        let folders = self.outposts.folders.lock();
        folders.unwrap_or_else(PoisonError::into_inner)
    }

    fn earlier(&self) -> MutexGuard<'_, Vec<Earlier>> {
        let earlier = self.outposts.earlier.lock();
        earlier.unwrap_or_else(PoisonError::into_inner)
    }
}
