//! Sockets whose flows a policy refuses: destroyed on the programs' orders, and found by a sweep
//! after a policy has changed.
//!
//! Only TCP and connected UDP sockets are destroyed; a refused datagram of an unconnected one
//! answers its sender itself.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    fs::{self, File},
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use common::{
    event::DestroyOrder,
    flow::Address,
    id::{Generation, PolicyId, RuleId, SessionId},
    layout::{GrantKey, LiveKey, SocketState, Tally, Worker},
    pod::Pod,
    rule::TLS,
};

use super::{Inner, cgroup, error::Error, grant::grants_of, ring::Reader};
use crate::{
    clock::BootTime,
    policy::{compiled::CompiledPolicy, model::Model},
    sys::{
        netns,
        sock_diag::{Diag, Socket},
    },
};

/// A socket that some session made.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct OwnedSocket {
    /// Whose it is.
    pub(in crate::kernel) session: SessionId,
    /// Under which policy.
    pub(in crate::kernel) policy: PolicyId,
    /// The socket.
    pub(in crate::kernel) socket: Socket,
}

/// What became of an order or a sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Destroyed {
    /// Sockets that were destroyed.
    pub sockets: u32,
    /// Sockets that were gone already.
    pub gone: u32,
}

/// Destroys sockets, each through the `sock_diag` of its own network namespace.
#[derive(Debug)]
pub struct Destroyer {
    inner: Arc<Inner>,
    ring: Ring,
    own: u64,
    diags: HashMap<u64, Diag>,
    lost: u64,
}

struct Ring(Reader);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Destroyer {
    pub(in crate::kernel) fn open(inner: &Arc<Inner>) -> Result<Self, Error> {
        let own = netns::cookie().map_err(|source| Error::Netns {
            action: "asking for its cookie",
            source,
        })?;
        let diag = Diag::open().map_err(|source| Error::Diag {
            action: "opening",
            source,
        })?;
        let mut destroyer = Self {
            inner: Arc::clone(inner),
            ring: Ring(Reader::open(inner.maps.destroy()?, "DESTROY")?),
            own,
            diags: HashMap::from([(own, diag)]),
            lost: 0,
        };
        destroyer.lost = destroyer.orders_lost()?;
        Ok(destroyer)
    }

    /// Waits for the programs' next order. Safe to drop: no order is lost by it.
    pub async fn next(&mut self) -> Result<DestroyOrder, Error> {
        self.ring.0.next().await
    }

    /// Takes the `sock_diag` of a network namespace that can not be entered from here; nothing in its
    /// place forgets that namespace.
    pub fn adopt(&mut self, netns: u64, diag: Option<OwnedFd>) {
        match diag {
            Some(fd) => drop(self.diags.insert(netns, Diag::adopt(fd))),
            None => drop(self.diags.remove(&netns)),
        }
    }

    /// Carries an order out.
    pub fn carry_out(&mut self, order: &DestroyOrder) -> Result<Destroyed, Error> {
        let socket = Socket {
            family: u8::try_from(order.family).unwrap_or(0),
            protocol: order.protocol,
            state: 0,
            local: order.local,
            local_port: order.local_port,
            remote: order.remote,
            remote_port: order.remote_port,
            device: 0,
            inode: 0,
            cookie: order.cookie,
            cgroup: None,
            storage: None,
        };
        let netns = if order.netns == 0 {
            self.own
        } else {
            order.netns
        };
        let maps = &self.inner.maps;
        let diag = diag(&mut self.diags, netns)?;
        let mut done = Destroyed::default();
        if destroy(diag, &socket)? {
            done.sockets = 1;
            return Ok(done);
        }
        // A socket that is bound to a device is found by its whole identity only.
        let listed = diag.list(maps.sockets()).map_err(|source| Error::Diag {
            action: "listing",
            source,
        })?;
        let found = listed
            .iter()
            .find(|listed| listed.cookie == order.cookie && listed.is_connected());
        match found {
            Some(socket) if destroy(diag, socket)? => done.sockets = 1,
            _ => done.gone = 1,
        }
        Ok(done)
    }

    /// Destroys every connected socket whose flow the policies in force refuse, by the same decision
    /// on the host. Due after a push that changed something, and when orders were lost. It looks at
    /// the agent's network namespace and at those that orders came from.
    pub fn sweep(&mut self) -> Result<Destroyed, Error> {
        let Self {
            inner, diags, own, ..
        } = self;
        let policies = inner.published().policies();
        let hosts: BTreeSet<Address> = inner.maps.locals.keys()?.into_iter().collect();
        let mut done = Destroyed::default();
        for (netns, diag) in diags.iter_mut() {
            // The table of local addresses is that of the agent's namespace.
            let hosts = if netns == own {
                hosts.clone()
            } else {
                BTreeSet::new()
            };
            let models: HashMap<PolicyId, Model<'_>> = policies
                .iter()
                .map(|(id, policy)| (*id, Model::new(policy, hosts.clone())))
                .collect();
            for owned in owned_sockets(diag, inner)? {
                let socket = &owned.socket;
                let allowed = models.get(&owned.policy).is_some_and(|model| {
                    let flow = model.flow(socket.protocol, socket.remote, socket.remote_port);
                    model.decide(&flow).passes()
                });
                if allowed || !socket.is_connected() {
                    continue;
                }
                let policy = policies.get(&owned.policy);
                let lives = |rule| inner.lives(owned.policy, rule);
                if policy.is_some_and(|policy| inner.carries(policy, &owned, lives)) {
                    continue;
                }
                if destroy(diag, socket)? {
                    done.sockets += 1;
                } else {
                    done.gone += 1;
                }
            }
        }
        Ok(done)
    }

    /// Whether orders were lost since the last call: then a sweep is due.
    pub fn needs_sweep(&mut self) -> Result<bool, Error> {
        let lost = self.orders_lost()?;
        let grown = lost > self.lost;
        self.lost = lost;
        Ok(grown)
    }

    fn orders_lost(&self) -> Result<u64, Error> {
        let tallies = &self.inner.maps.tallies;
        let slot = Tally::DestroyLost as u32;
        let lost = tallies.table.sum(&slot).map_err(|source| Error::Map {
            name: tallies.name,
            source,
        })?;
        Ok(lost.unwrap_or(0))
    }
}

impl Inner {
    /// Whether a flow that no prefix allows goes on by what names have opened: it goes to the resolver,
    /// the rule that admitted it lives, or a grant that demands no handshake covers it.
    /// `lives`: whether a rule is part of the policy that judges.
    pub(in crate::kernel) fn carries(
        &self,
        policy: &CompiledPolicy,
        owned: &OwnedSocket,
        lives: impl Fn(RuleId) -> bool,
    ) -> bool {
        let socket = &owned.socket;
        let resolver = self.resolver.load(Ordering::Relaxed);
        if socket.remote_port == resolver && IpAddr::from(socket.remote).is_loopback() {
            return true;
        }
        let Some(state) = socket.storage.as_deref().and_then(SocketState::read) else {
            // The kernel lists UDP sockets without their state. Egress has it, and refuses the next
            // datagram of one whose rule is gone.
            let mut names = policy.egress.rules.iter().filter(|r| r.domain().is_some());
            return names.any(|rule| rule.opens(socket.protocol, socket.remote_port));
        };
        let is_admitted = state.generation != Generation(0)
            && state.address == socket.remote
            && state.port == socket.remote_port
            && state.protocol == socket.protocol
            && lives(state.rule);
        is_admitted || self.is_granted(owned, lives)
    }

    fn is_granted(&self, owned: &OwnedSocket, lives: impl Fn(RuleId) -> bool) -> bool {
        let socket = &owned.socket;
        let key = GrantKey {
            session: owned.session,
            address: socket.remote,
        };
        let set = self.maps.grants.read(&key).ok().flatten();
        let now = BootTime::now();
        set.is_some_and(|set| {
            grants_of(&set).any(|grant| {
                let range = &grant.range;
                BootTime(grant.expires_ns) > now
                    && u16::from(range.protocol) == socket.protocol
                    && (range.low..=range.high).contains(&socket.remote_port)
                    && range.flags & TLS == 0
                    && lives(range.rule)
            })
        })
    }

    /// Whether a rule is part of the generation in force.
    fn lives(&self, policy: PolicyId, rule: RuleId) -> bool {
        let generation = self.word(policy).generation().unwrap_or_default();
        let key = LiveKey {
            policy,
            generation,
            rule,
        };
        matches!(self.maps.live.read(&key), Ok(Some(_)))
    }
}

/// All sockets of a namespace that belong to a session.
pub(in crate::kernel) fn owned_sockets(
    diag: &mut Diag,
    inner: &Inner,
) -> Result<Vec<OwnedSocket>, Error> {
    let owners = owners(inner)?;
    let sockets = diag
        .list(inner.maps.sockets())
        .map_err(|source| Error::Diag {
            action: "listing",
            source,
        })?;
    Ok(sockets
        .into_iter()
        .filter_map(|socket| {
            let (session, policy) = owner(&socket, &owners)?;
            Some(OwnedSocket {
                session,
                policy,
                socket,
            })
        })
        .collect())
}

/// Whose a socket is: what its tag says, or, because the kernel lists UDP sockets without their
/// storage, what the table of workers says of its cgroup.
fn owner(socket: &Socket, owners: &HashMap<u64, Worker>) -> Option<(SessionId, PolicyId)> {
    if let Some(state) = socket.storage.as_deref().and_then(SocketState::read) {
        return Some((state.session, state.policy));
    }
    let worker = owners.get(&socket.cgroup?)?;
    Some((worker.session, worker.policy))
}

/// The workers by cgroup, with the cgroups that they made below their own.
fn owners(inner: &Inner) -> Result<HashMap<u64, Worker>, Error> {
    let mut owners = HashMap::new();
    for cgroup in inner.maps.workers.keys()? {
        if let Some(worker) = inner.maps.workers.read(&cgroup)? {
            owners.insert(cgroup, worker);
        }
    }
    for (cgroup, below) in cgroup::descendants(&inner.parent)? {
        if let Some(worker) = owners.get(&cgroup.0).copied() {
            owners.extend(below.into_iter().map(|child| (child.0, worker)));
        }
    }
    for (cgroup, path) in inner.outposts().iter() {
        if let Some(worker) = owners.get(&cgroup.0).copied() {
            let below = cgroup::below(path).into_iter();
            owners.extend(below.map(|child| (child.0, worker)));
        }
    }
    Ok(owners)
}

fn destroy(diag: &mut Diag, socket: &Socket) -> Result<bool, Error> {
    diag.destroy(socket).map_err(|source| Error::Diag {
        action: "destroying",
        source,
    })
}

/// The `sock_diag` of a namespace, found by its cookie among those that processes are in.
fn diag(diags: &mut HashMap<u64, Diag>, cookie: u64) -> Result<&mut Diag, Error> {
    match diags.entry(cookie) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let failed = |source| Error::Netns {
                action: "finding it by its cookie",
                source,
            };
            let namespace = find(cookie).map_err(failed)?;
            let diag = netns::run_in(&namespace, Diag::open).map_err(failed)?;
            Ok(entry.insert(diag))
        }
    }
}

fn find(cookie: u64) -> io::Result<File> {
    let mut seen = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if !is_process {
            continue;
        }
        // Processes come and go while we look.
        let Ok(name) = fs::read_link(path.join("ns/net")) else {
            continue;
        };
        if !seen.insert(name) {
            continue;
        }
        if let Some(namespace) = matching(&path, cookie) {
            return Ok(namespace);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn matching(process: &Path, cookie: u64) -> Option<File> {
    let namespace = File::open(process.join("ns/net")).ok()?;
    let found = netns::run_in(&namespace, netns::cookie).ok()?;
    (found == cookie).then_some(namespace)
}
