//! Questions on their way upstream: equal ones go once, and all that wait get the answer.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
};

use tokio::sync::Semaphore;

use super::{
    cache::Kept,
    error::{AskError, Error},
    gate::Question,
    outage::Outage,
    resolver::{Resolver, Taken, Waiter},
    session::lock,
    upstream::Servers,
};
use crate::clock::BootTime;

/// Takes the reply of a query that waited.
pub(super) trait Outlet: Send + 'static {
    fn send(self: Box<Self>, reply: &[u8]) -> Result<(), Lost>;
}

/// The reply found nobody: the socket is full or the connection is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost;

/// The questions that are on their way.
pub(super) struct Flights {
    resolver: Arc<Resolver>,
    servers: Servers,
    waiting: Mutex<HashMap<Question, Vec<Passenger>>>,
    /// Questions that may be asked at once.
    asking: Semaphore,
    outage: Outage,
}

struct Passenger {
    waiter: Waiter,
    outlet: Box<dyn Outlet>,
}

impl Flights {
    pub(super) fn new(resolver: Arc<Resolver>) -> Result<Self, Error> {
        Ok(Self {
            servers: Servers::new(resolver.settings.upstream.clone())?,
            asking: Semaphore::new(resolver.settings.limits.asking),
            waiting: Mutex::default(),
            outage: Outage::default(),
            resolver,
        })
    }

    /// Lets a query wait for its question; the first one asks it.
    pub(super) fn board(self: &Arc<Self>, waiter: Waiter, outlet: Box<dyn Outlet>) {
        let question = waiter.admitted.question.clone();
        let passenger = Passenger { waiter, outlet };
        match lock(&self.waiting).entry(question.clone()) {
            Entry::Occupied(mut flight) => {
                flight.get_mut().push(passenger);
                return;
            }
            Entry::Vacant(none) => {
                none.insert(vec![passenger]);
            }
        }
        let landing = Landing {
            flights: Arc::clone(self),
            question,
            landed: false,
        };
        // Ends by itself: the question has a deadline.
        drop(tokio::spawn(landing.fly()));
    }

    async fn ask(&self, question: &Question) -> Option<Kept> {
        let resolver = &self.resolver;
        let patience = super::upstream::PATIENCE;
        let asked = tokio::time::timeout(patience, async {
            let _place = self.asking.acquire().await.ok()?;
            resolver.counters.asked.add();
            Some(self.servers.ask(question).await)
        });
        let answer = match asked.await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(AskError::TimedOut),
        };
        let answer = match answer {
            Ok(answer) => Arc::new(answer),
            Err(error) => {
                resolver.counters.upstream_failures.add();
                self.outage.failed(question, &error);
                return None;
            }
        };
        self.outage.answered();
        let now_ns = BootTime::now().0;
        let kept = Kept::new(answer, now_ns);
        lock(&resolver.cache).keep(question.clone(), kept.clone(), now_ns);
        Some(kept)
    }
}

/// One question on its way. However it ends, nobody waits for it afterwards.
struct Landing {
    flights: Arc<Flights>,
    question: Question,
    landed: bool,
}

impl Landing {
    async fn fly(mut self) {
        let kept = self.flights.ask(&self.question).await;
        let passengers = self.passengers();
        // From here on the next query of this kind begins a flight of its own.
        self.landed = true;
        let resolver = &self.flights.resolver;
        let mut out = Vec::new();
        for Passenger { waiter, outlet } in passengers {
            let finished = resolver.finish(waiter, kept.as_ref(), &mut out);
            if matches!(finished, Taken::Replied) && outlet.send(&out).is_err() {
                resolver.counters.replies_lost.add();
            }
        }
    }

    fn passengers(&self) -> Vec<Passenger> {
        lock(&self.flights.waiting)
            .remove(&self.question)
            .unwrap_or_default()
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            drop(self.passengers());
        }
    }
}
