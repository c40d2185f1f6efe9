//! The desks: threads that serve connections, each all of one connection's calls to their end.
//!
//! A call waits several times for very little: its body, its worker, its caller. Among threads that share
//! their work each of these waits is a chance to wake the other one, which finds nothing left to do.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    House, connection,
    entrance::Guest,
    seats::{Seat, Seats},
};

/// Desks that there are at most.
const DESKS_MAX: usize = 8;
/// When the agent ends, calls that it cuts have so long to be recorded, on whatever disk,
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// and callers to take what they were told last.
const END_TIME_MAX: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(2);

/// Leads guests to the desks, which are closed when this is dropped.
pub(super) struct Desks {
    all: Vec<Desk>,
    /// Where looking for one begins.
    next: usize,
}

/// Who comes to a desk.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Somebody to serve, with the place at the desk.
    Guest(Guest, Seat),
    /// Somebody who asks whether the desk is attended.
    Asked(oneshot::Sender<()>),
}

struct Desk {
    arrivals: mpsc::UnboundedSender<Arrival>,
    /// Who is at this desk. How many may be there at all is said at the entrance.
    seats: Arc<Seats>,
}

/// The threads behind the desks.
#[must_use]
pub(super) struct Threads(Vec<JoinHandle<()>>);

/// Opens a desk for each processor, up to a bound.
pub(super) fn open(house: &Arc<House>) -> io::Result<(Desks, Threads)> {
    let count = thread::available_parallelism().map_or(1, |count| count.get().min(DESKS_MAX));
    let (mut desks, mut threads) = (Vec::new(), Vec::new());
    for _ in 0..count {
        // Never more than there are seats.
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let house = Arc::clone(house);
        let thread = thread::Builder::new().name("broker-desk".to_owned());
        threads.push(thread.spawn(move || runtime.block_on(attend(house, arriving)))?);
        let seats = unbounded();
        desks.push(Desk { arrivals, seats });
    }
    let desks = Desks {
        all: desks,
        next: 0,
    };
    Ok((desks, Threads(threads)))
}

impl Desks {
    /// Ways to all of them, which keep none open.
    pub(super) fn ways(&self) -> Vec<mpsc::WeakUnboundedSender<Arrival>> {
        let all = self.all.iter();
        all.map(|desk| desk.arrivals.downgrade()).collect()
    }

    /// Leads a guest to the desk with the fewest of its user, of such to the one with the fewest of all:
    /// connections of others do not decide where one's own are served.
    pub(super) fn lead(&mut self, guest: Guest) {
        let uid = guest.peer.uid;
        self.next = self.next.wrapping_add(1);
        let (before, after) = self.all.split_at(self.next % self.all.len().max(1));
        // One that has ended takes nobody.
        let desks = after.iter().chain(before);
        let desks = desks.filter(|desk| !desk.arrivals.is_closed());
        let Some(desk) = desks.min_by_key(|desk| desk.seats.taken(uid)) else {
            return tracing::error!("broker connection that nobody serves");
        };
        if let Some(place) = desk.seats.take(uid) {
            drop(desk.arrivals.send(Arrival::Guest(guest, place)));
        }
    }
}

fn unbounded() -> Arc<Seats> {
    Arc::new(Seats::new(usize::MAX, usize::MAX))
}

impl Threads {
    /// Waits until all desks have ended. Blocks.
    pub(super) fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a thread of the broker panicked");
            }
        }
    }
}

async fn attend(house: Arc<House>, mut arriving: mpsc::UnboundedReceiver<Arrival>) {
    while let Some(arrival) = arriving.recv().await {
        let (guest, place) = match arrival {
            Arrival::Guest(guest, place) => (guest, place),
            Arrival::Asked(answer) => {
                // Nobody waits any more where it took too long.
                answer.send(()).ok();
                continue;
            }
        };
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            serve(house, guest).await;
            drop(place);
        });
    }
    // Where the entrance alone had to close, who is there stays.
    house.stopping.clone().wait().await;
    let metrics = Handle::current().metrics();
    let began = Instant::now();
    while metrics.num_alive_tasks() > 0 {
        let calls = house.broker.running() > 0;
        let time = if calls { CALL_TIME_MAX } else { END_TIME_MAX };
        if began.elapsed() > time {
            return tracing::warn!(calls, "broker connections did not end in time");
        }
        sleep(END_POLL).await;
    }
}

async fn serve(house: Arc<House>, guest: Guest) {
    let Guest { stream, peer, seat } = guest;
    let began = Instant::now();
    match crate::sys::wire::ends(stream) {
        Ok(ends) => connection(&house, peer, ends).await,
        Err(error) => return tracing::warn!(%error, "broker connection not set up"),
    }
    // Who floods does not come faster by hanging up before it was answered.
    if let Some(penalty) = house.broker.penalty(peer) {
        house.pause(penalty.saturating_sub(began.elapsed())).await;
    }
    drop(seat);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::audit::Caller;

    const SEATS: usize = 100;

    struct Scene {
        desks: Desks,
        arriving: Vec<mpsc::UnboundedReceiver<Arrival>>,
        seats: Arc<Seats>,
    }

    impl Scene {
        fn new(count: usize) -> Self {
            let (mut all, mut arriving) = (Vec::new(), Vec::new());
            for _ in 0..count {
                let (arrivals, arrives) = mpsc::unbounded_channel();
                arriving.push(arrives);
                let seats = unbounded();
                all.push(Desk { arrivals, seats });
            }
            Self {
                desks: Desks { all, next: 0 },
                arriving,
                seats: Arc::new(Seats::new(SEATS, SEATS)),
            }
        }

        fn lead(&mut self, uid: u32) {
            let (stream, _other) = UnixStream::pair().expect("a pair");
            let (gid, pid) = (uid, 1);
            let peer = Caller { uid, gid, pid };
            let seat = self.seats.take(uid).expect("a seat");
            self.desks.lead(Guest { stream, peer, seat });
        }

        /// How many of a user are at each desk.
        fn of(&self, uid: u32) -> Vec<usize> {
            let desks = self.desks.all.iter();
            desks.map(|desk| desk.seats.taken(uid).0).collect()
        }
    }

    #[test]
    fn a_users_guests_are_spread_whatever_others_do() {
        let mut scene = Scene::new(3);
        for _ in 0..6 {
            scene.lead(1);
        }
        assert_eq!(scene.of(1), [2, 2, 2]);
        // The other one makes one desk look free.
        let first = scene.arriving.first_mut().expect("three");
        while first.try_recv().is_ok() {}
        assert_eq!(scene.of(1), [0, 2, 2]);
        for _ in 0..3 {
            scene.lead(2);
        }
        assert_eq!(scene.of(2), [1, 1, 1]);
    }

    #[test]
    fn a_desk_that_has_ended_gets_nobody() {
        let mut scene = Scene::new(2);
        drop(scene.arriving.remove(0));
        for _ in 0..3 {
            scene.lead(1);
        }
        assert_eq!(scene.of(1), [0, 3]);
        scene.arriving.clear();
        scene.lead(1);
        assert_eq!(
            scene.of(1),
            [0, 0],
            "nobody is left, and the place is given back"
        );
        let all = scene.desks.all.iter().map(|desk| desk.seats.taken(1).1);
        assert_eq!(all.sum::<usize>(), 0);
    }
}
