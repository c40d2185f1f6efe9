//! What one session was refused: each distinct thing once, with how often, bounded.

use std::{collections::BTreeMap, net::IpAddr};

use common::{
    event::Hook,
    verdict::{Outcome, Reason},
};
use serde::{Deserialize, Serialize};

use super::event::Event;

/// Distinct refusals that are kept for one session; further ones are only counted.
pub const REFUSALS_PER_SESSION_MAX: usize = 128;

/// One distinct thing that was refused, or that `observe` mode let pass.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The first event of its kind.
    #[serde(flatten)]
    pub event: Event,
    /// How many events were of this kind.
    pub times: u64,
}

/// The refusals of one session.
#[derive(Debug, Default)]
pub struct Refusals {
    kinds: BTreeMap<Kind, Refusal>,
    beyond: u64,
    suppressed: u64,
}

/// What makes two refusals the same thing to the reader. The hook does not: one attempt may be
/// refused at `connect` and, by another path, in `egress`.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    protocol: u16,
    address: IpAddr,
    port: u16,
    reason: Reason,
    bare: bool,
    name: Option<String>,
    record: Option<String>,
}

impl Refusals {
    /// Takes one event of the session.
    pub fn note(&mut self, event: &Event) {
        self.suppressed = self.suppressed.saturating_add(u64::from(event.suppressed));
        if event.outcome == Outcome::Allow {
            return;
        }
        let bare = matches!(event.hook, Hook::SockCreate);
        let kind = Kind {
            protocol: event.protocol,
            address: event.address,
            port: event.port,
            reason: event.reason,
            bare,
            name: event.name.clone(),
            // A name that no rule covers is refused for every type alike.
            record: event
                .record
                .clone()
                .filter(|_| event.reason != Reason::NameNotAllowed),
        };
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.times = known.times.saturating_add(1);
        } else if self.kinds.len() < REFUSALS_PER_SESSION_MAX {
            let (event, times) = (event.clone(), 1);
            self.kinds.insert(kind, Refusal { event, times });
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    /// Refusals that are missing from the list: beyond its bound, or suppressed in the kernel.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.beyond.saturating_add(self.suppressed)
    }

    /// How many distinct things there are in the list.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.kinds.len() as u64
    }

    /// The list.
    #[must_use]
    pub fn list(&self) -> Vec<Refusal> {
        self.kinds.values().cloned().collect()
    }
}

impl Refusal {
    /// What was tried, in one word.
    #[must_use]
    pub fn destination(&self) -> String {
        self.event.destination()
    }
}

#[cfg(test)]
mod tests {
    use common::{
        event::{self, Hook},
        flow::Address,
        verdict::{Outcome, Reason},
    };

    use super::{REFUSALS_PER_SESSION_MAX, Refusals};
    use crate::{
        observe::event::{Event, Names},
        timestamp::Timestamp,
    };

    fn refused(port: u16) -> Event {
        let raw = event::Event {
            address: Address::from_v4([192, 0, 2, 1]),
            protocol: 6,
            port,
            suppressed: 2,
            outcome: Outcome::Deny as u8,
            reason: Reason::NotAllowed as u8,
            hook: Hook::Connect as u8,
            ..event::Event::default()
        };
        Event::decode(&raw, &Names::default(), Timestamp::now()).expect("event")
    }

    #[test]
    fn equal_refusals_are_one() {
        let mut refusals = Refusals::default();
        refusals.note(&refused(443));
        refusals.note(&refused(443));
        refusals.note(&refused(80));
        let list = refusals.list();
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].times, 2);
        assert_eq!(list[1].destination(), "tcp 192.0.2.1:443");
        assert_eq!(refusals.missing(), 6);
    }

    #[test]
    fn the_list_is_bounded_and_says_what_is_missing() {
        let mut refusals = Refusals::default();
        for port in 1..=1_000 {
            let mut event = refused(port);
            event.suppressed = 0;
            refusals.note(&event);
        }
        assert_eq!(refusals.list().len(), REFUSALS_PER_SESSION_MAX);
        assert_eq!(refusals.missing(), 1_000 - REFUSALS_PER_SESSION_MAX as u64);
    }
}
