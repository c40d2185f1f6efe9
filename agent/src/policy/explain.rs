//! Why a policy allows or refuses one destination, and what would change that.
//!
//! The answer comes from `common::decide`, the code that enforces; this file only words it. Nothing
//! is looked up in DNS.

mod asked;
mod name;
mod remedy;
mod unix;

use common::{
    flow::{Address, Flow},
    special,
    verdict::{Reason, Verdict},
};

pub use self::{
    asked::{Asked, Destination, DestinationError, NamedDestination},
    name::{Demand, GrantHeld, KnownGrant, NameExplanation, explain_name, verdict_at},
    remedy::{caution_for_name, remedy, remedy_for_name, remedy_for_pattern},
    unix::{UnixExplanation, explain_unix},
};
use super::{
    compiled::{CompiledPolicy, Prefix, Record, Rule},
    model::Model,
};

/// Domain rules that an explanation of an address names.
const BY_NAME_MAX: usize = 3;

/// What [`Verdict::AllowOwn`] hangs on.
const OWN_CONDITION: &str =
    "a process of the same session is at the other end; the host and other sessions stay shut";

/// What a policy says of one destination.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What was asked.
    pub flow: Flow,
    /// The kernel's verdict.
    pub verdict: Verdict,
    /// The rule that allows it.
    pub rule: Option<&'a Rule>,
    /// What the verdict hangs on beside the destination.
    pub condition: Option<&'static str>,
    /// Name of the special-purpose range that holds the address.
    pub range: Option<&'static str>,
    /// Domain rules that open the port at the address while a name of theirs resolves there: some
    /// of them, and how many there are. Empty where the verdict would stay.
    pub by_name: (Vec<&'a Rule>, usize),
    /// What would allow it, or why nothing can.
    pub hint: Option<String>,
}

/// Asks the policy, as if the session held no grant.
#[must_use]
pub fn explain<'a>(
    policy: &'a CompiledPolicy,
    model: &Model<'_>,
    destination: Destination,
) -> Explanation<'a> {
    let Destination {
        address,
        port,
        protocol,
    } = destination;
    let flow = model.flow(protocol, address, port);
    let verdict = model.decide(&flow);
    let rule = match verdict {
        Verdict::Allow(id) | Verdict::AllowNamed(id) | Verdict::AllowOwn(id) => {
            policy.egress.rules.iter().find(|rule| rule.id == id)
        }
        Verdict::Resolver | Verdict::Observe(_) | Verdict::Deny(_) => None,
    };
    let hint = match verdict {
        Verdict::Allow(_) | Verdict::AllowNamed(_) | Verdict::AllowOwn(_) | Verdict::Resolver => {
            None
        }
        Verdict::Observe(reason) | Verdict::Deny(reason) => Some(remedy(reason, destination)),
    };
    Explanation {
        flow,
        verdict,
        rule,
        condition: matches!(verdict, Verdict::AllowOwn(_)).then_some(OWN_CONDITION),
        by_name: by_name(policy, &flow, verdict),
        range: range_name(address),
        hint,
    }
}

/// Only where the lack of a rule is the reason can a grant change the verdict.
fn by_name<'a>(
    policy: &'a CompiledPolicy,
    flow: &Flow,
    verdict: Verdict,
) -> (Vec<&'a Rule>, usize) {
    if !matches!(
        verdict,
        Verdict::Deny(Reason::NotAllowed) | Verdict::Observe(Reason::NotAllowed)
    ) {
        return (Vec::new(), 0);
    }
    let record = match flow.address.v4() {
        Some(_) => Record::A,
        None => Record::Aaaa,
    };
    let opens = |rule: &&Rule| {
        rule.domain().is_some_and(|domain| domain.answers(record))
            && rule.opens(flow.protocol, flow.port)
    };
    let rules = || policy.egress.rules.iter().filter(opens);
    (rules().take(BY_NAME_MAX).collect(), rules().count())
}

/// The most specific special-purpose range that holds an address.
#[must_use]
pub fn range_name(address: Address) -> Option<&'static str> {
    special::refused_ranges()
        .filter(|range| Prefix::from(*range).contains(address))
        .max_by_key(|range| range.length)
        .map(|range| range.name)
}
