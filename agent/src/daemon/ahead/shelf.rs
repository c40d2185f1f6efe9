//! Which places wait for the sessions of each policy, and how many ought to: as many as were wanted at
//! once lately. Makes and ends none, and knows nothing of what they are.

#![expect(clippy::similar_names, reason = "a method of shelves has a shelf")]

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::policy::compiled::Digest;

/// Of one policy, however many sessions of it are asked for at once.
pub(super) const DEPTH_MAX: usize = 4;
/// What nobody has asked for in this time is given up: an agent at rest holds nothing for a policy that
/// is not used.
pub(super) const WAITING_TIME_MAX: Duration = Duration::from_mins(1);

/// The places of every policy.
#[derive(Debug)]
pub(super) struct Shelves<P>(HashMap<Digest, Shelf<P>>);

/// The places of one policy.
#[derive(Debug)]
struct Shelf<P> {
    /// The one that has waited longest is first.
    waiting: VecDeque<P>,
    /// One is being made.
    making: bool,
    /// To whom that one goes.
    claim: Option<oneshot::Sender<P>>,
    /// How many ought to wait.
    wanted: usize,
    /// How many waited since the last look, at the least: nobody has needed these.
    least: usize,
    asked: Instant,
}

/// What there is for a session.
#[derive(Debug)]
pub(super) enum Taken<P> {
    /// This waited.
    Waiting(P),
    /// It is being made; nothing comes where that fails.
    Soon(oneshot::Receiver<P>),
    /// Nothing.
    Nothing,
}

/// What became of a place that was made.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Put<P> {
    /// It waits.
    Waits,
    /// Somebody waited for it already.
    Taken,
    /// Nobody wants it any more.
    Unwanted(P),
}

impl<P> Default for Shelves<P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<P> Shelves<P> {
    /// Takes a place for a session.
    pub(super) fn take(&mut self, policy: Digest, now: Instant) -> Taken<P> {
        let Some(shelf) = self.0.get_mut(&policy) else {
            return Taken::Nothing;
        };
        shelf.asked = now;
        if let Some(place) = shelf.waiting.pop_front() {
            shelf.least = shelf.least.min(shelf.waiting.len());
            return Taken::Waiting(place);
        }
        shelf.least = 0;
        if shelf.making && shelf.claim.is_none() {
            let (claim, soon) = oneshot::channel();
            shelf.claim = Some(claim);
            return Taken::Soon(soon);
        }
        Taken::Nothing
    }

    /// One more would have been there in time for who has just found nothing.
    pub(super) fn want_more(&mut self, policy: Digest) {
        if let Some(shelf) = self.0.get_mut(&policy) {
            shelf.wanted = shelf.wanted.saturating_add(1).min(DEPTH_MAX);
        }
    }

    /// Whether a place ought to be made for this policy. Whoever is told so makes it, and says what came
    /// of it by [`Shelves::put`] or [`Shelves::failed`]; nobody else is told so meanwhile.
    pub(super) fn begin(&mut self, policy: Digest, now: Instant) -> bool {
        let shelf = self.0.entry(policy).or_insert_with(|| Shelf {
            waiting: VecDeque::new(),
            making: false,
            claim: None,
            wanted: 1,
            least: 0,
            asked: now,
        });
        if shelf.making || shelf.waiting.len() >= shelf.wanted {
            return false;
        }
        shelf.making = true;
        true
    }

    /// A place was made.
    pub(super) fn put(&mut self, policy: Digest, place: P) -> Put<P> {
        let Some(shelf) = self.0.get_mut(&policy) else {
            return Put::Unwanted(place);
        };
        shelf.making = false;
        let place = match shelf.claim.take() {
            // Whoever waited for it may be gone.
            Some(claim) => match claim.send(place) {
                Ok(()) => return Put::Taken,
                Err(place) => place,
            },
            None => place,
        };
        shelf.waiting.push_back(place);
        Put::Waits
    }

    /// No place could be made. Who waits for it is told.
    pub(super) fn failed(&mut self, policy: Digest) {
        if let Some(shelf) = self.0.get_mut(&policy) {
            shelf.making = false;
            shelf.claim = None;
        }
    }

    /// Takes all that wait for sessions of these policies.
    pub(super) fn remove(&mut self, policies: impl Fn(&Digest) -> bool) -> Vec<P> {
        let gone = self.0.extract_if(|policy, _| policies(policy));
        gone.flat_map(|(_, shelf)| shelf.waiting).collect()
    }

    /// Takes what waits and is not fit any more.
    pub(super) fn take_unfit(&mut self, is_fit: impl Fn(&P) -> bool) -> Vec<P> {
        let mut unfit = Vec::new();
        for shelf in self.0.values_mut() {
            let (fit, rest) = shelf.waiting.drain(..).partition(|place| is_fit(place));
            shelf.waiting = fit;
            shelf.least = shelf.least.min(shelf.waiting.len());
            unfit.extend(Vec::from(rest));
        }
        unfit
    }

    /// Takes what nobody has needed since the last look; all, where nobody has asked for long.
    pub(super) fn take_idle(&mut self, now: Instant) -> Vec<P> {
        let old = |shelf: &Shelf<P>| {
            !shelf.making && now.saturating_duration_since(shelf.asked) >= WAITING_TIME_MAX
        };
        let old = self.0.extract_if(|_, shelf| old(shelf));
        let mut idle: Vec<_> = old.flat_map(|(_, shelf)| shelf.waiting).collect();
        for shelf in self.0.values_mut() {
            shelf.wanted = shelf.wanted.saturating_sub(shelf.least).max(1);
            let surplus = shelf.waiting.len().saturating_sub(shelf.wanted);
            idle.extend(shelf.waiting.drain(..surplus));
            shelf.least = shelf.waiting.len();
        }
        idle
    }

    /// How many wait for sessions of each policy.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Digest, usize)> {
        let shelves = self.0.iter();
        shelves.map(|(policy, shelf)| (*policy, shelf.waiting.len()))
    }
}

#[cfg(test)]
mod tests;
