//! The entrance: takes connections off the socket, on a thread of its own and at its own pace, looks at
//! who it is, and shows out whom there is no seat for.
//!
//! Showing out costs no task, no line and no memory: what a user is refused in one go is counted and
//! told of at once. After such a go the entrance rests, so that who comes again and again without a
//! seat has a tenth of a processor and none of the runtime that carries out calls: the kernel has it wait
//! in `connect` until there is room in the socket's queue. Whoever else is in that queue waits with it, so
//! the queue is short.

use std::{
    io::{self, ErrorKind, PipeReader, PipeWriter},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{Backlog, getsockopt, listen, sockopt::PeerCredentials},
};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    House,
    bell::{Bell, Listening, bell},
    desks::Desks,
    seats::{Seat, Seats},
};
use crate::{
    audit::Caller,
    broker::reason::{Reason, Refused},
};

/// Connections that are taken in one go. Some 30 µs each where the host is busy: less than a tenth of
/// the longest rest.
const GO: usize = 32;
/// A rest is so many times as long as what was done for nobody.
const REST_SHARE: u32 = 9;
const REST_MAX: Duration = Duration::from_millis(10);
/// Connections that wait to be taken (`listen(2)`).
const QUEUE: i32 = 512;
/// After an error that might come again at once.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A connection that may stay.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) stream: UnixStream,
    pub(super) peer: Caller,
    pub(super) seat: Seat,
}

/// The entrance is closed when this is dropped.
#[must_use]
pub(super) struct Open {
    bell: Bell,
    attended: oneshot::Receiver<()>,
    _closing: PipeWriter,
}

impl Open {
    /// What its thread answers while it serves.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Returns where the entrance had to close.
    pub(super) async fn closed(&mut self) {
        // Nothing is ever sent: the other end goes with the thread.
        drop((&mut self.attended).await);
    }
}

/// Opens the entrance. Wants a runtime, in which refusals are recorded.
pub(super) fn open(
    listener: UnixListener,
    house: Arc<House>,
    seats: Arc<Seats>,
    desks: Desks,
) -> io::Result<Open> {
    listener.set_nonblocking(true)?;
    // Also where the service manager made it, with a queue of its own choice.
    listen(&listener, Backlog::new(QUEUE)?)?;
    let (closed, closing) = io::pipe()?;
    let (attending, attended) = oneshot::channel();
    let (bell, rings) = bell()?;
    let entrance = Entrance {
        listener,
        rings,
        closed,
        house,
        seats,
        desks,
        away: Vec::new(),
    };
    let runtime = Handle::current();
    let thread = std::thread::Builder::new().name("broker-entrance".to_owned());
    thread.spawn(move || {
        let _entered = runtime.enter();
        entrance.attend();
        drop(attending);
    })?;
    Ok(Open {
        bell,
        attended,
        _closing: closing,
    })
}

struct Entrance {
    listener: UnixListener,
    rings: Listening,
    closed: PipeReader,
    house: Arc<House>,
    seats: Arc<Seats>,
    desks: Desks,
    /// Who was shown out in this go, for what and how often.
    away: Vec<(Caller, Reason, u64)>,
}

impl Entrance {
    fn attend(mut self) {
        loop {
            let (listener, rings) = (self.listener.as_fd(), self.rings.as_fd());
            if !wait(&[listener, rings], self.closed.as_fd(), PollTimeout::NONE) {
                return;
            }
            self.rings.answer();
            let began = Instant::now();
            let mut rest = match self.go() {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "broker connection not accepted");
                    ERROR_PAUSE
                }
            };
            if self.tell() {
                let share = began.elapsed().saturating_mul(REST_SHARE);
                rest = rest.max(share.min(REST_MAX));
            }
            // Of whole milliseconds: less is no rest.
            let rest = PollTimeout::try_from(rest).unwrap_or(PollTimeout::ZERO);
            if rest != PollTimeout::ZERO && !wait(&[], self.closed.as_fd(), rest) {
                return;
            }
        }
    }

    /// Takes what waits, up to a bound.
    fn go(&mut self) -> io::Result<()> {
        for _ in 0..GO {
            match self.listener.accept() {
                Ok((stream, _address)) => self.look_at(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It hung up, or a signal came.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at who connects. Nothing is said to whom nothing may be said.
    fn look_at(&mut self, stream: UnixStream) {
        let peer = match getsockopt(&stream, PeerCredentials) {
            Ok(peer) => Caller {
                uid: peer.uid(),
                gid: peer.gid(),
                pid: peer.pid(),
            },
            Err(error) => {
                return tracing::warn!(%error, "broker connection of nobody refused");
            }
        };
        if self.house.settings.worker_uids.contains(&peer.uid) {
            return self.shown_out(peer, Reason::PeerRefused);
        }
        let Some(seat) = self.seats.take(peer.uid) else {
            return self.shown_out(peer, Reason::ConnectionLimit);
        };
        if let Err(error) = stream.set_nonblocking(true) {
            return tracing::warn!(%error, "broker connection not set up");
        }
        self.desks.lead(Guest { stream, peer, seat });
    }

    fn shown_out(&mut self, peer: Caller, reason: Reason) {
        let mut away = self.away.iter_mut();
        let known = away.find(|(who, why, _)| who.uid == peer.uid && *why == reason);
        match known {
            Some((_, _, count)) => *count = count.saturating_add(1),
            None => self.away.push((peer, reason, 1)),
        }
    }

    /// Tells of who was shown out; whether anybody was.
    fn tell(&mut self) -> bool {
        let any = !self.away.is_empty();
        for (peer, reason, count) in self.away.drain(..) {
            let refused = Refused::from(reason);
            self.house.broker.turned_away_often(peer, &refused, count);
        }
        any
    }
}

/// Waits for one of these, or so long; whether the entrance is still open.
fn wait(these: &[BorrowedFd<'_>], closed: BorrowedFd<'_>, time: PollTimeout) -> bool {
    let watched = these.iter().chain(std::iter::once(&closed));
    let mut watched: Vec<_> = watched
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    loop {
        match poll(&mut watched, time) {
            Ok(_) => {
                let last = watched.last().and_then(PollFd::any);
                return last != Some(true);
            }
            Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "broker socket not watched");
                return false;
            }
        }
    }
}
