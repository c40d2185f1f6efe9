//! The decision: pure, in the order of the design, first answer wins.
//!
//! It has exactly two readers of rules: the kernel's maps and the host's model. `stockade policy
//! explain` therefore answers with the code that enforces.

use crate::{
    flow::{DNS_PORT, Flow, Place, Shape, TCP, UDP},
    id::{Generation, PolicyId},
    rule::{DOOR, Match, OWN, TLS},
    special::{self, Special},
    verdict::{Reason, Verdict},
};

/// Whether a policy refuses or reports what no rule allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Refuse.
    Enforce,
    /// Pass and report; private ranges stay refused.
    Observe,
}

/// The rules a decision reads: one policy in one generation, read once per decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Which policy.
    pub policy: PolicyId,
    /// Which generation of it.
    pub generation: Generation,
    /// Its mode.
    pub mode: Mode,
}

/// What is left of a session's quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// The flow may go on.
    Left,
    /// No connection is left.
    ConnectionsSpent,
    /// No byte is left.
    BytesSpent,
}

/// Where a decision reads rules from.
pub trait Rules {
    /// The worker's policy as it stands, or `None` for an unknown worker or a policy that is gone.
    fn scope(&self) -> Option<Scope>;
    /// What the longest prefix that covers the flow's address opens for its protocol and port.
    fn find(&self, scope: Scope, flow: &Flow) -> Option<Match>;
    /// Whether the flow is one of port 53 that is sent to the resolver (in `connect` and `sendmsg`),
    /// or goes to the resolver's own address and port already (in `egress`).
    fn goes_to_resolver(&self, flow: &Flow) -> bool;
    /// What a grant of the session, unexpired and of a living rule, opens for the flow. Where several
    /// cover it, one that demands no name comes first: rules are a union.
    fn granted(&self, scope: Scope, flow: &Flow) -> Option<Match>;
    /// What is left for this flow; asked only when a rule (or `observe`) lets it pass, and the
    /// place where it is charged.
    fn quota(&self, scope: Scope, flow: &Flow) -> Quota;
}

/// Decides one flow.
#[inline(always)]
pub fn decide(rules: &impl Rules, flow: &Flow) -> Verdict {
    let Some(scope) = rules.scope() else {
        return Verdict::Deny(Reason::UnknownWorker);
    };
    if flow.protocol != TCP && flow.protocol != UDP {
        return Verdict::Deny(Reason::Protocol);
    }
    if flow.shape == Shape::Odd {
        return Verdict::Deny(Reason::SourceRouted);
    }
    if let Some(reason) = special::refusal_of_embedded(&flow.address) {
        return Verdict::Deny(reason);
    }
    if rules.goes_to_resolver(flow) {
        return Verdict::Resolver;
    }
    if flow.port == DNS_PORT {
        return Verdict::Deny(Reason::DnsNotRedirected);
    }
    let special = special::classify(&flow.address);
    let found = rules.find(scope, flow);
    if special != Special::No || flow.place == Place::Host {
        return match found {
            Some(rule) if rule.flags & DOOR != 0 => {
                charged(rules, scope, flow, Verdict::Allow(rule.rule))
            }
            // Nothing leaves the session: no quota is touched.
            Some(rule) if rule.flags & OWN != 0 => Verdict::AllowOwn(rule.rule),
            _ if flow.place == Place::Host || special == Special::Local => {
                Verdict::Deny(Reason::LocalAddress)
            }
            _ => Verdict::Deny(Reason::PrivateAddress),
        };
    }
    let found = match found {
        Some(rule) => Some(rule),
        None => rules.granted(scope, flow),
    };
    match (found, scope.mode) {
        (Some(rule), _) if rule.flags & TLS != 0 => {
            charged(rules, scope, flow, Verdict::AllowNamed(rule.rule))
        }
        (Some(rule), _) => charged(rules, scope, flow, Verdict::Allow(rule.rule)),
        (None, Mode::Observe) => charged(rules, scope, flow, Verdict::Observe(Reason::NotAllowed)),
        (None, Mode::Enforce) => Verdict::Deny(Reason::NotAllowed),
    }
}

#[inline(always)]
fn charged(rules: &impl Rules, scope: Scope, flow: &Flow, verdict: Verdict) -> Verdict {
    match rules.quota(scope, flow) {
        Quota::Left => verdict,
        Quota::ConnectionsSpent => Verdict::Deny(Reason::LimitConnections),
        Quota::BytesSpent => Verdict::Deny(Reason::LimitBytes),
    }
}

#[cfg(test)]
mod tests;
