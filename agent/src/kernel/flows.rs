//! Sockets whose flows a policy refuses: destroyed on the programs' orders, and found by a sweep
//! after a policy has changed.
//!
//! Only TCP and connected UDP sockets are destroyed; a refused datagram of an unconnected one
//! answers its sender itself.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use common::{
    event::DestroyOrder,
    flow::{Flow, Place, Shape},
    id::{PolicyId, SessionId},
    layout::{SocketState, Tally},
    pod::Pod,
    verdict::Verdict,
};

use super::{Inner, error::Error, maps::Maps, ring::Reader};
use crate::sys::{
    netns,
    sock_diag::{Diag, Socket},
};

/// A socket that some session made.
#[derive(Clone, Debug)]
pub struct OwnedSocket {
    /// Whose it is.
    pub session: SessionId,
    /// Under which policy.
    pub policy: PolicyId,
    /// The socket.
    pub socket: Socket,
}

impl OwnedSocket {
    /// What it talks to, as a decision sees it; `None` where it is not connected.
    fn flow(&self, is_local: impl Fn(&Flow) -> bool) -> Option<Flow> {
        let socket = &self.socket;
        if !socket.is_connected() {
            return None;
        }
        let mut flow = Flow {
            protocol: socket.protocol,
            address: socket.remote,
            port: socket.remote_port,
            place: Place::Remote,
            shape: Shape::Plain,
        };
        if is_local(&flow) {
            flow.place = Place::Host;
        }
        Some(flow)
    }
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

    /// Destroys every connected socket of the agent's namespace and of those that orders came from
    /// whose flow `judge` refuses. `judge` gets the session's policy.
    pub fn sweep(
        &mut self,
        judge: &dyn Fn(PolicyId, &Flow) -> Verdict,
    ) -> Result<Destroyed, Error> {
        let Self {
            inner, diags, own, ..
        } = self;
        let maps = &inner.maps;
        let mut done = Destroyed::default();
        for (netns, diag) in diags.iter_mut() {
            // The table of local addresses is that of the agent's namespace.
            let ours = netns == own;
            for owned in owned_sockets(diag, maps)? {
                let is_local = |flow: &Flow| {
                    ours && maps.locals.read(&flow.address).is_ok_and(|l| l.is_some())
                };
                let Some(flow) = owned.flow(is_local) else {
                    continue;
                };
                if judge(owned.policy, &flow).passes() {
                    continue;
                }
                if destroy(diag, &owned.socket)? {
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

/// All sockets of a namespace that carry a session's tag.
pub(in crate::kernel) fn owned_sockets(
    diag: &mut Diag,
    maps: &Maps,
) -> Result<Vec<OwnedSocket>, Error> {
    let sockets = diag.list(maps.sockets()).map_err(|source| Error::Diag {
        action: "listing",
        source,
    })?;
    Ok(sockets
        .into_iter()
        .filter_map(|socket| {
            let state = SocketState::read(socket.storage.as_deref()?)?;
            Some(OwnedSocket {
                session: state.session,
                policy: state.policy,
                socket,
            })
        })
        .collect())
}

fn destroy(diag: &mut Diag, socket: &Socket) -> Result<bool, Error> {
    diag.destroy(socket).map_err(|source| Error::Diag {
        action: "destroying",
        source,
    })
}

/// The `sock_diag` of a namespace, found by its cookie among those that processes are in.
fn diag(diags: &mut HashMap<u64, Diag>, cookie: u64) -> Result<&mut Diag, Error> {
    use std::collections::hash_map::Entry;
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
    let mut seen = std::collections::HashSet::new();
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
