//! The order of a decision: each answer, and that it comes before the next.

use core::cell::Cell;

use super::*;
use crate::{
    flow::{Address, MPTCP},
    id::RuleId,
};

/// Rules that answer as told.
struct Told {
    scope: Option<Scope>,
    found: Option<Match>,
    granted: Option<Match>,
    resolver: bool,
    left: Quota,
    asked_quota: Cell<u32>,
}

impl Rules for Told {
    fn scope(&self) -> Option<Scope> {
        self.scope
    }

    fn find(&self, _scope: Scope, _flow: &Flow) -> Option<Match> {
        self.found
    }

    fn goes_to_resolver(&self, flow: &Flow) -> bool {
        self.resolver && flow.port == DNS_PORT
    }

    fn granted(&self, _scope: Scope, _flow: &Flow) -> Option<Match> {
        self.granted
    }

    fn quota(&self, _scope: Scope, _flow: &Flow) -> Quota {
        self.asked_quota.set(self.asked_quota.get() + 1);
        self.left
    }
}

const RULE: RuleId = RuleId(7);
const PUBLIC: [u8; 4] = [93, 184, 216, 34];

fn told(mode: Mode, found: Option<u8>) -> Told {
    Told {
        scope: Some(Scope {
            policy: PolicyId(1),
            generation: Generation(1),
            mode,
        }),
        found: found.map(|flags| Match { rule: RULE, flags }),
        granted: None,
        resolver: false,
        left: Quota::Left,
        asked_quota: Cell::new(0),
    }
}

fn flow(address: [u8; 4], port: u16) -> Flow {
    Flow {
        protocol: TCP,
        address: Address::from_v4(address),
        port,
        place: Place::Remote,
        shape: Shape::Plain,
    }
}

#[test]
fn first_answer_wins() {
    let nobody = Told {
        scope: None,
        ..told(Mode::Observe, Some(DOOR))
    };
    let everything_wrong = Flow {
        protocol: MPTCP,
        shape: Shape::Odd,
        place: Place::Host,
        ..flow([10, 0, 0, 1], DNS_PORT)
    };
    assert_eq!(
        decide(&nobody, &everything_wrong),
        Verdict::Deny(Reason::UnknownWorker)
    );
    let open = told(Mode::Observe, Some(DOOR));
    assert_eq!(
        decide(&open, &everything_wrong),
        Verdict::Deny(Reason::Protocol)
    );
    let odd = Flow {
        protocol: UDP,
        ..everything_wrong
    };
    assert_eq!(decide(&open, &odd), Verdict::Deny(Reason::SourceRouted));
    let dns = Flow {
        shape: Shape::Plain,
        ..odd
    };
    assert_eq!(decide(&open, &dns), Verdict::Deny(Reason::DnsNotRedirected));
    assert_eq!(open.asked_quota.get(), 0, "what is refused is not charged");
    let door = Flow { port: 443, ..dns };
    assert_eq!(decide(&open, &door), Verdict::Allow(RULE));
    assert_eq!(open.asked_quota.get(), 1);
}

#[test]
fn an_embedded_address_is_refused_before_a_door_opens_the_outer_one() {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[0, 0x64, 0xff, 0x9b]);
    bytes[12..].copy_from_slice(&[169, 254, 169, 254]);
    let nat64 = Flow {
        address: Address(bytes),
        ..flow(PUBLIC, 443)
    };
    let open = told(Mode::Observe, Some(DOOR));
    assert_eq!(decide(&open, &nat64), Verdict::Deny(Reason::PrivateAddress));
}

#[test]
fn special_ranges_need_a_door_in_every_mode() {
    for mode in [Mode::Enforce, Mode::Observe] {
        for found in [None, Some(0)] {
            let rules = told(mode, found);
            let private = flow([10, 0, 0, 1], 443);
            assert_eq!(
                decide(&rules, &private),
                Verdict::Deny(Reason::PrivateAddress)
            );
            let loopback = flow([127, 0, 0, 1], 443);
            assert_eq!(
                decide(&rules, &loopback),
                Verdict::Deny(Reason::LocalAddress)
            );
            let own = Flow {
                place: Place::Host,
                ..flow(PUBLIC, 443)
            };
            assert_eq!(decide(&rules, &own), Verdict::Deny(Reason::LocalAddress));
        }
        let door = told(mode, Some(DOOR));
        for address in [[10, 0, 0, 1], [127, 0, 0, 1], PUBLIC] {
            let flow = Flow {
                place: Place::Host,
                ..flow(address, 443)
            };
            assert_eq!(decide(&door, &flow), Verdict::Allow(RULE));
        }
    }
}

#[test]
fn own_loopback_is_a_door_of_its_own_without_quota_and_in_no_mode_more_than_that() {
    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
    for mode in [Mode::Enforce, Mode::Observe] {
        let mut rules = told(mode, Some(OWN));
        rules.left = Quota::BytesSpent;
        assert_eq!(
            decide(&rules, &flow(LOOPBACK, 8888)),
            Verdict::AllowOwn(RULE)
        );
        assert_eq!(rules.asked_quota.get(), 0);
        assert_eq!(
            decide(&rules, &flow(LOOPBACK, DNS_PORT)),
            Verdict::Deny(Reason::DnsNotRedirected)
        );
        rules.scope = None;
        assert_eq!(
            decide(&rules, &flow(LOOPBACK, 8888)),
            Verdict::Deny(Reason::UnknownWorker)
        );
    }
    // A door to the host, where one is named, is asked for no peer.
    let rules = told(Mode::Enforce, Some(DOOR | OWN));
    assert_eq!(decide(&rules, &flow(LOOPBACK, 8888)), Verdict::Allow(RULE));
}

#[test]
fn what_no_rule_names() {
    let public = flow(PUBLIC, 443);
    let enforced = decide(&told(Mode::Enforce, None), &public);
    assert_eq!(enforced, Verdict::Deny(Reason::NotAllowed));
    let observed = decide(&told(Mode::Observe, None), &public);
    assert_eq!(observed, Verdict::Observe(Reason::NotAllowed));
    assert!(observed.passes());
    assert_eq!(
        decide(&told(Mode::Enforce, Some(0)), &public),
        Verdict::Allow(RULE)
    );
}

#[test]
fn a_spent_quota_refuses_what_would_pass() {
    for (left, reason) in [
        (Quota::ConnectionsSpent, Reason::LimitConnections),
        (Quota::BytesSpent, Reason::LimitBytes),
    ] {
        for (mode, found, address) in [
            (Mode::Enforce, Some(0), PUBLIC),
            (Mode::Observe, None, PUBLIC),
            (Mode::Enforce, Some(DOOR), [10, 0, 0, 1]),
        ] {
            let spent = Told {
                left,
                ..told(mode, found)
            };
            assert_eq!(decide(&spent, &flow(address, 443)), Verdict::Deny(reason));
        }
        let refused = Told {
            left,
            ..told(Mode::Enforce, None)
        };
        assert_eq!(
            decide(&refused, &flow(PUBLIC, 443)),
            Verdict::Deny(Reason::NotAllowed)
        );
    }
}

#[test]
fn port_53_goes_to_the_resolver_where_there_is_one() {
    let mut rules = told(Mode::Enforce, Some(0));
    let query = flow(PUBLIC, DNS_PORT);
    assert_eq!(
        decide(&rules, &query),
        Verdict::Deny(Reason::DnsNotRedirected)
    );
    rules.resolver = true;
    assert_eq!(decide(&rules, &query), Verdict::Resolver);
    // Whatever server the program names: the host's own and private ones too.
    assert_eq!(
        decide(&rules, &flow([127, 0, 0, 53], DNS_PORT)),
        Verdict::Resolver
    );
    assert_eq!(
        decide(&rules, &flow([10, 0, 0, 2], DNS_PORT)),
        Verdict::Resolver
    );
    rules.scope = None;
    assert_eq!(decide(&rules, &query), Verdict::Deny(Reason::UnknownWorker));
}

#[test]
fn a_grant_is_asked_after_the_prefixes_and_never_opens_a_special_address() {
    let named = Match {
        rule: RuleId(9),
        flags: TLS,
    };
    let mut rules = told(Mode::Enforce, None);
    rules.granted = Some(named);
    assert_eq!(
        decide(&rules, &flow(PUBLIC, 443)),
        Verdict::AllowNamed(RuleId(9))
    );
    assert_eq!(
        decide(&rules, &flow([10, 0, 0, 1], 443)),
        Verdict::Deny(Reason::PrivateAddress)
    );
    rules.granted = Some(Match { flags: 0, ..named });
    assert_eq!(
        decide(&rules, &flow(PUBLIC, 443)),
        Verdict::Allow(RuleId(9))
    );
    rules.found = Some(Match {
        rule: RULE,
        flags: 0,
    });
    rules.granted = Some(named);
    assert_eq!(
        decide(&rules, &flow(PUBLIC, 443)),
        Verdict::Allow(RULE),
        "a prefix rule demands no name"
    );
    rules.found = None;
    rules.left = Quota::ConnectionsSpent;
    assert_eq!(
        decide(&rules, &flow(PUBLIC, 443)),
        Verdict::Deny(Reason::LimitConnections)
    );
}
