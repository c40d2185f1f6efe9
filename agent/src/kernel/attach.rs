//! The hooks on the parent cgroup, and what may be done once they are there.
//!
//! [`Attached`] is the proof that the hooks stand: only [`attach`] makes one, and only with it a
//! session is admitted.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{
    id::{CgroupId, PolicyId, SessionId},
    layout::{Usage, WORKER_CLOSING, Worker},
};

use super::{
    Inner,
    cgroup::Parent,
    closing::{Closer, Ending},
    error::Error,
    sync::Synced,
};
use crate::sys::{bpf, bpf_map::Write};

/// Names of pinned links begin so.
pub(in crate::kernel) const LINK_PREFIX: &str = "link_";

/// A hook: the program's name in the object, and where the kernel attaches it.
#[derive(Debug)]
pub(in crate::kernel) struct Hook {
    pub(in crate::kernel) name: &'static str,
    /// `enum bpf_attach_type`, linux/bpf.h
    pub(in crate::kernel) attach_type: u32,
}

/// Every hook. Egress first: it is the authority, and alone it would already be tight.
pub(in crate::kernel) const HOOKS: &[Hook] = &[
    hook("egress", 1),
    hook("ingress", 0),
    hook("sock_create", 2),
    hook("bind4", 8),
    hook("bind6", 9),
    hook("connect4", 10),
    hook("connect6", 11),
    hook("sendmsg4", 14),
    hook("sendmsg6", 15),
    hook("recvmsg4", 19),
    hook("recvmsg6", 20),
    hook("getpeername4", 29),
    hook("getpeername6", 30),
    PACE,
];

/// Gives connections their congestion control back: on the cgroup only where the kernel has one that
/// has to stand back, because it is asked several times for each connection.
const PACE: Hook = hook("pace", 3);
/// Names of congestion controls, for every network namespace.
const CONGESTION_CONTROLS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// Names of those that send by the clock begin so; `ebpf/src/hook/pace.rs` knows them too.
const PACED: &str = "bbr";

/// A hook of this name.
pub(in crate::kernel) const fn hook(name: &'static str, attach_type: u32) -> Hook {
    Hook { name, attach_type }
}

/// Proof that every hook is on the parent cgroup, and the handle to admit sessions.
#[derive(Clone, Debug)]
pub struct Attached {
    pub(in crate::kernel) inner: Arc<Inner>,
    closer: Arc<Closer>,
    pub(in crate::kernel) parent: CgroupId,
    /// Whether the last look found a hook missing ([`super::standing`]).
    pub(in crate::kernel) severed: Arc<AtomicBool>,
}

/// Proof that a session's cgroup is known to the hooks under a policy that is in force.
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    session: SessionId,
    cgroup: CgroupId,
    policy: PolicyId,
    unix_hooks: bool,
}

impl Admitted {
    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> CgroupId {
        self.cgroup
    }

    /// Its policy.
    #[must_use]
    pub fn policy(&self) -> PolicyId {
        self.policy
    }

    /// Whether the kernel judges the names of unix sockets too.
    #[must_use]
    pub fn unix_hooks(&self) -> bool {
        self.unix_hooks
    }
}

/// Puts the hooks on the parent cgroup: a pinned link that is on it gets the new program, without
/// a gap; one that is severed or elsewhere is replaced.
pub(in crate::kernel) fn attach(
    inner: &Arc<Inner>,
    parent: &Parent,
    _synced: &Synced,
) -> Result<Attached, Error> {
    for program in &inner.programs {
        let path = inner
            .pins
            .path(&format!("{LINK_PREFIX}{}", program.hook.name));
        if !is_wanted(program.hook) {
            // One of an earlier boot of this agent may be there; severed or not, it is not needed.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "link not needed any more, not removed");
                }
                Ok(()) | Err(_) => {}
            }
            continue;
        }
        put(program.hook, &program.fd, (parent.id(), parent.fd()), &path)?;
    }
    Ok(Attached {
        inner: Arc::clone(inner),
        closer: Arc::new(Closer::start(inner)?),
        parent: parent.id(),
        severed: Arc::default(),
    })
}

/// Whether a hook belongs on the parent cgroup of this host.
pub(in crate::kernel) fn is_wanted(hook: &Hook) -> bool {
    is_fence(hook) || has_paced_congestion_control()
}

/// Whether a hook refuses anything: without [`PACE`] a fence is no looser, and a congestion control that
/// is loaded later must not make it look missing.
pub(in crate::kernel) fn is_fence(hook: &Hook) -> bool {
    hook.name != PACE.name
}

/// Whether a connection may begin with a congestion control that sends by the clock. Where the kernel
/// does not say, it may.
fn has_paced_congestion_control() -> bool {
    std::fs::read_to_string(CONGESTION_CONTROLS).map_or(true, |names| {
        names.split_whitespace().any(|name| name.starts_with(PACED))
    })
}

/// Puts a program on a cgroup: a pinned link that is on it gets the program, without a gap.
pub(in crate::kernel) fn put(
    hook: &'static Hook,
    program: &OwnedFd,
    (cgroup, fd): (CgroupId, BorrowedFd<'_>),
    path: &Path,
) -> Result<(), Error> {
    let failed = |action| {
        move |source| Error::Attach {
            hook: hook.name,
            action,
            source,
        }
    };
    if let Ok(link) = bpf::open_pin(path) {
        let info = bpf::link_info(link.as_fd()).map_err(failed("asking for the pinned link"))?;
        if info.cgroup == cgroup.0 && info.attach_type == hook.attach_type {
            return bpf::link_update(link.as_fd(), program.as_fd())
                .map_err(failed("replacing the program of the pinned link"));
        }
        tracing::warn!(
            hook.name = hook.name,
            link.cgroup = info.cgroup,
            "pinned link is not on its cgroup: attaching again"
        );
        std::fs::remove_file(path).map_err(failed("removing the stale link"))?;
    }
    let link = bpf::link_create(program.as_fd(), fd, hook.attach_type)
        .map_err(failed("attaching to the cgroup"))?;
    bpf::pin(link.as_fd(), path).map_err(failed("pinning the link"))
}

impl Attached {
    /// Makes a session's cgroup known to the hooks. Call it before anything runs in the cgroup.
    pub fn admit(
        &self,
        session: SessionId,
        cgroup: CgroupId,
        policy: PolicyId,
    ) -> Result<Admitted, Error> {
        if session.0 == 0 {
            return Err(Error::SessionId(session));
        }
        if self.severed.load(Ordering::SeqCst) {
            return Err(Error::Severed);
        }
        if self.inner.word(policy).generation().is_none() {
            return Err(Error::PolicyNotInForce(policy));
        }
        let maps = &self.inner.maps;
        maps.usage
            .write(&session, &Usage::default(), Write::New)
            .map_err(|error| {
                if error.is_existing() {
                    Error::SessionId(session)
                } else {
                    error
                }
            })?;
        let worker = Worker {
            session,
            policy,
            flags: 0,
        };
        if let Err(error) = maps.workers.write(&cgroup.0, &worker, Write::Any) {
            maps.usage.remove(&session)?;
            return Err(error);
        }
        self.inner.expect_grants(session, policy);
        Ok(Admitted {
            session,
            cgroup,
            policy,
            unix_hooks: self.inner.unix_hooks,
        })
    }

    /// The session has ended: no socket is made in its cgroup any more. What its sockets have begun
    /// goes on until none is left or [`super::closing::CLOSING_SECONDS_MAX`] have passed; then the
    /// rest is destroyed and the session forgotten. Returns at once.
    pub fn closing(&self, session: SessionId, cgroup: CgroupId) -> Result<(), Error> {
        if let Some(worker) = self.inner.maps.workers.read(&cgroup.0)? {
            let closing = Worker {
                flags: worker.flags | WORKER_CLOSING,
                ..worker
            };
            self.inner
                .maps
                .workers
                .write(&cgroup.0, &closing, Write::Existing)?;
        }
        self.closer.end(Ending::new(session, cgroup));
        Ok(())
    }

    /// What a session has used; `None` once it is forgotten.
    pub fn usage(&self, session: SessionId) -> Result<Option<Usage>, Error> {
        self.inner.maps.usage.read(&session)
    }
}
