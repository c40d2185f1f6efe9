//! The desks: threads that serve connections, each all of one connection's calls to their end.
//!
//! A call waits several times for very little: its body, its worker, its caller. Among threads that share
//! their work each of these waits is a chance to wake the other one, which finds nothing left to do; on a
//! host that is not busy that took longer than to check a signature.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{House, connection, entrance::Guest};

/// Desks that there are at most.
const DESKS_MAX: usize = 8;
/// What is left of the calls of callers who went away has so long to be recorded when the agent ends.
const END_TIME_MAX: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(2);

/// Leads guests to the desks. When all of these are gone, the desks end with their last guests.
#[derive(Clone)]
pub(super) struct Desks(Vec<Desk>);

#[derive(Clone)]
struct Desk {
    guests: mpsc::UnboundedSender<(Guest, Place)>,
    /// As many as there are guests, and two more.
    taken: Place,
}

/// A guest's place at a desk, as long as it is there.
type Place = Arc<()>;

/// The threads behind the desks.
#[must_use]
pub(super) struct Threads(Vec<JoinHandle<()>>);

/// Opens a desk for each processor, up to a bound.
pub(super) fn open(house: &Arc<House>) -> io::Result<(Desks, Threads)> {
    let count = thread::available_parallelism().map_or(1, |count| count.get().min(DESKS_MAX));
    let (mut desks, mut threads) = (Vec::new(), Vec::new());
    for _ in 0..count {
        // Never more than there are seats.
        let (guests, arriving) = mpsc::unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let house = Arc::clone(house);
        let thread = thread::Builder::new().name("broker-desk".to_owned());
        threads.push(thread.spawn(move || runtime.block_on(attend(house, arriving)))?);
        let taken = Place::default();
        desks.push(Desk { guests, taken });
    }
    Ok((Desks(desks), Threads(threads)))
}

impl Desks {
    /// Leads a guest to the desk that has fewest. Where there is none any more the doors are closed.
    pub(super) fn lead(&self, guest: Guest) {
        let desk = self
            .0
            .iter()
            .min_by_key(|desk| Arc::strong_count(&desk.taken));
        if let Some(desk) = desk {
            drop(desk.guests.send((guest, Arc::clone(&desk.taken))));
        }
    }
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

async fn attend(house: Arc<House>, mut arriving: mpsc::UnboundedReceiver<(Guest, Place)>) {
    while let Some((guest, place)) = arriving.recv().await {
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            serve(house, guest).await;
            drop(place);
        });
    }
    // Connections end by themselves when it is time to stop; calls go on to their record.
    let metrics = Handle::current().metrics();
    let until = Instant::now() + END_TIME_MAX;
    while metrics.num_alive_tasks() > 0 && Instant::now() < until {
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
