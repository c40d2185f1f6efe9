//! Where the workers of each tool have gone before, so that a destination that is new can be told:
//! a tool that reached three names for a month and a fourth one today is worth a look.
//!
//! It remembers what was used of late, not everything: two sets of bounded size for each tool, of which
//! the older one is forgotten when the newer one is full. What is forgotten and used again is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use common::{event::Hook, verdict::Outcome};

use super::event::Event;

/// Destinations of one set.
const SET_MAX: usize = 2_048;
/// Tools whose destinations are remembered.
const TOOLS_MAX: usize = 4_096;

/// Destinations by tool. Sums with a secret key stand for them: nobody can make two look alike.
#[derive(Debug, Default)]
pub struct Destinations {
    tools: Mutex<BTreeMap<String, Seen>>,
    sums: RandomState,
}

#[derive(Debug, Default)]
struct Seen {
    late: BTreeSet<u64>,
    before: BTreeSet<u64>,
}

impl Destinations {
    /// Whether an event tells of a destination that is open to its tool and was not used before. A name
    /// is one destination whatever its addresses are; an address is one whatever its ports are.
    pub fn is_new(&self, event: &Event) -> bool {
        let passed = matches!(event.outcome, Outcome::Allow | Outcome::Observe);
        let (Some(tool), true) = (event.tool.as_deref(), passed) else {
            return false;
        };
        let sum = match (&event.name, &event.rule) {
            (Some(name), _) => self.sums.hash_one(("name", name.to_ascii_lowercase())),
            // The addresses of a name come and go; its rule is what was used.
            (None, Some(rule)) if is_domain(rule) => self.sums.hash_one(("rule", rule)),
            // A query tells its name or nothing, a socket has no destination yet.
            _ if matches!(event.hook, Hook::Resolver | Hook::SockCreate) => return false,
            _ => self.sums.hash_one(("address", event.address)),
        };
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if !tools.contains_key(tool) && tools.len() >= TOOLS_MAX {
            // Policies came and went: all begin anew.
            tools.clear();
        }
        tools.entry(tool.to_owned()).or_default().note(sum)
    }
}

impl Seen {
    fn note(&mut self, sum: u64) -> bool {
        if self.late.contains(&sum) {
            return false;
        }
        if self.late.len() >= SET_MAX {
            self.before = std::mem::take(&mut self.late);
        }
        self.late.insert(sum);
        !self.before.contains(&sum)
    }
}

/// Whether a rule's canonical words are those of a name.
fn is_domain(rule: &str) -> bool {
    rule.starts_with("domain ")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use common::{
        event::{self, Hook},
        verdict::{Outcome, Reason},
    };

    use super::{Destinations, SET_MAX};
    use crate::{
        observe::event::{Event, Names},
        timestamp::Timestamp,
    };

    fn event(tool: &str, last: u8, name: Option<&str>) -> Event {
        let raw = event::Event {
            address: common::flow::Address::from_v4([203, 0, 114, last]),
            protocol: 6,
            port: 443,
            outcome: Outcome::Allow as u8,
            reason: Reason::NotAllowed as u8,
            hook: Hook::Connect as u8,
            ..event::Event::default()
        };
        let mut event = Event::decode(&raw, &Names::default(), Timestamp::now()).expect("event");
        event.tool = Some(tool.to_owned());
        event.name = name.map(str::to_owned);
        event
    }

    #[test]
    fn a_destination_is_new_once_for_each_tool() {
        let seen = Destinations::default();
        assert!(seen.is_new(&event("web", 1, None)));
        assert!(!seen.is_new(&event("web", 1, None)));
        assert!(seen.is_new(&event("web", 2, None)));
        assert!(seen.is_new(&event("mail", 1, None)));
        let mut other_port = event("web", 1, None);
        other_port.port = 8443;
        assert!(!seen.is_new(&other_port));
    }

    #[test]
    fn a_name_is_one_destination_on_whatever_address() {
        let seen = Destinations::default();
        assert!(seen.is_new(&event("web", 1, Some("api.example"))));
        assert!(!seen.is_new(&event("web", 2, Some("API.example"))));
        assert!(seen.is_new(&event("web", 2, Some("other.example"))));
        let mut ruled = event("web", 3, None);
        ruled.rule = Some("domain api.example tcp 443".to_owned());
        assert!(seen.is_new(&ruled));
        ruled.address = Ipv4Addr::new(203, 0, 114, 4).into();
        assert!(!seen.is_new(&ruled));
    }

    #[test]
    fn what_is_refused_is_no_destination() {
        let seen = Destinations::default();
        let mut refused = event("web", 1, Some("evil.example"));
        refused.outcome = Outcome::Deny;
        assert!(!seen.is_new(&refused));
        refused.outcome = Outcome::Observe;
        assert!(seen.is_new(&refused), "it went through");
        let mut nobody = event("web", 2, None);
        nobody.tool = None;
        assert!(!seen.is_new(&nobody));
    }

    #[test]
    fn what_is_used_stays_known_and_memory_is_bounded() {
        let seen = Destinations::default();
        assert!(seen.is_new(&event("web", 1, Some("daily.example"))));
        for number in 0..3 * SET_MAX {
            let name = format!("n{number}.example");
            assert!(seen.is_new(&event("web", 1, Some(&name))));
            assert!(!seen.is_new(&event("web", 1, Some("daily.example"))));
        }
        let tools = seen.tools.lock().expect("tools");
        let web = tools.get("web").expect("web");
        assert!(web.late.len() <= SET_MAX && web.before.len() <= SET_MAX);
    }
}
