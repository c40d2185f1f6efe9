//! Sessions that have ended: what their sockets have begun goes on for a while, then the rest is
//! destroyed and the session forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use common::id::{CgroupId, SessionId};

use super::{Inner, error::Error, flows};
use crate::sys::sock_diag::Diag;

/// How long the sockets of an ended session may finish what they have begun.
pub const CLOSING_SECONDS_MAX: u64 = 5;
/// How often it is looked whether any is left, at most: a look at all sockets of a host takes a
/// millisecond, and sessions may end a thousand times a second.
const LOOK: Duration = Duration::from_millis(100);

/// A session that has ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Ending {
    session: SessionId,
    cgroup: CgroupId,
    until: Instant,
}

impl Ending {
    pub(in crate::kernel) fn new(session: SessionId, cgroup: CgroupId) -> Self {
        Self {
            session,
            cgroup,
            until: Instant::now() + Duration::from_secs(CLOSING_SECONDS_MAX),
        }
    }
}

/// The thread that sees ended sessions off. One list of sockets serves all of them.
#[derive(Debug)]
pub(in crate::kernel) struct Closer {
    endings: Sender<Ending>,
}

impl Closer {
    pub(in crate::kernel) fn start(inner: &Arc<Inner>) -> Result<Self, Error> {
        let (endings, received) = mpsc::channel();
        let diag = Diag::open().map_err(|source| Error::Diag {
            action: "opening",
            source,
        })?;
        let inner = Arc::clone(inner);
        thread::Builder::new()
            .name("kernel-closing".to_owned())
            .spawn(move || run(&inner, diag, &received))
            .map_err(|source| Error::Thread {
                name: "kernel-closing",
                source,
            })?;
        Ok(Self { endings })
    }

    pub(in crate::kernel) fn end(&self, ending: Ending) {
        if self.endings.send(ending).is_err() {
            tracing::error!(
                session.id = ending.session.0,
                "the thread that sees sessions off has ended"
            );
        }
    }
}

/// Ends when the last [`Closer`] is dropped and every session is seen off.
fn run(inner: &Inner, mut diag: Diag, received: &Receiver<Ending>) {
    let mut endings: BTreeMap<SessionId, Ending> = BTreeMap::new();
    let mut open = true;
    let mut looked: Option<Instant> = None;
    while open || !endings.is_empty() {
        let next = if endings.is_empty() {
            received
                .recv()
                .map_err(|_ended| RecvTimeoutError::Disconnected)
        } else if open {
            received.recv_timeout(LOOK)
        } else {
            thread::sleep(LOOK);
            Err(RecvTimeoutError::Timeout)
        };
        match next {
            Ok(ending) => {
                endings.insert(ending.session, ending);
                if let Some(rest) = looked.and_then(|at| LOOK.checked_sub(at.elapsed())) {
                    thread::sleep(rest);
                }
                endings.extend(received.try_iter().map(|e| (e.session, e)));
            }
            Err(RecvTimeoutError::Disconnected) => open = false,
            Err(RecvTimeoutError::Timeout) => {}
        }
        looked = Some(Instant::now());
        if let Err(error) = see_off(inner, &mut diag, &mut endings) {
            tracing::warn!(%error, "sockets of ended sessions could not be looked at");
        }
    }
}

fn see_off(
    inner: &Inner,
    diag: &mut Diag,
    endings: &mut BTreeMap<SessionId, Ending>,
) -> Result<(), Error> {
    if endings.is_empty() {
        return Ok(());
    }
    let sockets = flows::owned_sockets(diag, inner)?;
    let alive: BTreeSet<SessionId> = sockets.iter().map(|owned| owned.session).collect();
    let now = Instant::now();
    let over: Vec<Ending> = endings
        .values()
        .filter(|ending| !alive.contains(&ending.session) || ending.until <= now)
        .copied()
        .collect();
    let mut failure = Ok(());
    let mut ended = BTreeSet::new();
    for ending in over {
        // One that fails is tried again, and holds up no other. It is not forgotten: what is left
        // of it stays known.
        match end(inner, diag, &ending, &sockets) {
            Ok(()) => {
                endings.remove(&ending.session);
                ended.insert(ending.session);
            }
            Err(error) => failure = Err(error),
        }
    }
    if !ended.is_empty() {
        // They have no socket any more: nothing writes a client of theirs again.
        inner.drop_clients(|client| ended.contains(&client.session))?;
    }
    failure
}

fn end(
    inner: &Inner,
    diag: &mut Diag,
    ending: &Ending,
    sockets: &[flows::OwnedSocket],
) -> Result<(), Error> {
    for owned in sockets {
        if owned.session == ending.session && owned.socket.is_connected() {
            diag.destroy(&owned.socket).map_err(|source| Error::Diag {
                action: "destroying",
                source,
            })?;
        }
    }
    inner.forget(ending.session, ending.cgroup)
}
