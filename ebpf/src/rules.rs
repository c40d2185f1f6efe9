//! The rules of a decision as the kernel's maps hold them.

use common::{
    decide::{Quota, Rules, Scope},
    flow::{Address, DNS_PORT, Flow, Place},
    id::{PolicyId, SessionId},
    layout::{Config, PolicyWord},
    rule::Match,
};

use crate::{
    maps::{self, UsageEntry},
    state::State,
};

/// What a decision is charged with, which also says where it is made.
#[derive(Clone, Copy)]
pub(crate) enum Charge {
    /// A connection: connect, and a new destination of sendmsg.
    Connection,
    /// The bytes of a packet that goes out.
    Bytes(u32),
    /// Nothing: a packet that comes in.
    Nothing,
}

/// The port of the resolver; 0 while there is none.
#[inline(always)]
pub(crate) fn resolver_port() -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "the agent writes a port")]
    let port = maps::config(Config::ResolverPort) as u16;
    port
}

/// Whether this is an address on which the resolver listens: 127.0.0.1 or `::1`.
#[inline(always)]
pub(crate) fn is_resolver_address(address: &Address) -> bool {
    let low = address.low();
    let is_one = u32::from(low == 1) | u32::from(low == 0xffff_7f00_0001);
    u32::from(address.high() == 0) & is_one != 0
}

/// Whether the resolver's endpoint is where a socket of this network namespace would find it. In one that
/// the agent does not listen in somebody else may; 0 is that of a socket of which it is not known.
///
/// Not inlined: its two ways, unfolded into a decision, have the compiler move a verdict about whose
/// reason is not set, which the verifier refuses.
#[inline(never)]
fn has_resolver(netns: u64) -> bool {
    netns != 0 && (netns == maps::config(Config::AgentNetns) || maps::has_resolver(netns))
}

/// Whether this is where a socket of this network namespace finds the resolver.
#[inline(always)]
pub(crate) fn is_resolver(netns: u64, address: &Address, port: u16) -> bool {
    port != 0 && port == resolver_port() && is_resolver_address(address) && has_resolver(netns)
}

/// Whether the session of a judged socket may still be asked of its last judgement alone. Where none of
/// the generation has left sockets behind there is nothing to look up.
#[inline(always)]
pub(crate) fn is_of_living(word: PolicyWord, state: State) -> bool {
    !word.left() || maps::usage(state.session()).is_some()
}

/// One decision's view of the maps. The policy's word is read when it is made, and only then.
pub(crate) struct Kernel {
    pub(crate) session: SessionId,
    pub(crate) policy: PolicyId,
    pub(crate) word: PolicyWord,
    usage: Option<UsageEntry>,
    charge: Charge,
    /// Cookie of the socket's network namespace, 0 where it is not known.
    netns: u64,
}

impl Kernel {
    #[inline(always)]
    pub(crate) fn new(session: SessionId, policy: PolicyId, charge: Charge) -> Self {
        Self {
            session,
            policy,
            word: maps::word(policy),
            usage: maps::usage(session),
            charge,
            netns: 0,
        }
    }

    /// The view for a socket that has a state.
    #[inline(always)]
    pub(crate) fn of(state: State, charge: Charge) -> Self {
        Self {
            netns: state.netns(),
            ..Self::new(state.session(), state.policy(), charge)
        }
    }
}

impl Rules for Kernel {
    /// A session without a usage entry has ended, whatever its sockets still say.
    #[inline(always)]
    fn scope(&self) -> Option<Scope> {
        self.usage?;
        Some(Scope {
            policy: self.policy,
            generation: self.word.generation()?,
            mode: self.word.mode(),
        })
    }

    #[inline(always)]
    fn find(&self, scope: Scope, flow: &Flow) -> Option<Match> {
        found(maps::find(scope.policy, scope.generation, flow))
    }

    #[inline(always)]
    fn goes_to_resolver(&self, flow: &Flow) -> bool {
        match self.charge {
            Charge::Connection => {
                flow.port == DNS_PORT && resolver_port() != 0 && has_resolver(self.netns)
            }
            Charge::Bytes(_) => {
                flow.place == Place::Host && is_resolver(self.netns, &flow.address, flow.port)
            }
            Charge::Nothing => false,
        }
    }

    #[inline(always)]
    fn granted(&self, scope: Scope, flow: &Flow) -> Option<Match> {
        found(maps::granted(
            self.session,
            scope.policy,
            scope.generation,
            flow,
        ))
    }

    #[inline(always)]
    fn quota(&self, _scope: Scope, _flow: &Flow) -> Quota {
        let Some(usage) = self.usage else {
            return Quota::Left;
        };
        match self.charge {
            Charge::Connection => charge_connection(usage, self.policy, self.word),
            Charge::Bytes(bytes) => charge_bytes(usage, self.policy, self.word, bytes),
            Charge::Nothing => Quota::Left,
        }
    }
}

#[inline(always)]
fn found(rule: Match) -> Option<Match> {
    (rule.rule != maps::NOTHING.rule).then_some(rule)
}

/// Charges the bytes of a packet. Strict: what is refused is counted too, so that a session that
/// has come to its limit stays there.
#[inline(always)]
pub(crate) fn charge_bytes(
    usage: UsageEntry,
    policy: PolicyId,
    word: PolicyWord,
    bytes: u32,
) -> Quota {
    if !word.limited() {
        return Quota::Left;
    }
    let Some(limits) = word.generation().and_then(|g| maps::limits(policy, g)) else {
        return Quota::BytesSpent;
    };
    let used = usage.bytes_out().fetch_add(u64::from(bytes));
    if used.saturating_add(u64::from(bytes)) > limits.bytes_out {
        return Quota::BytesSpent;
    }
    Quota::Left
}

#[inline(always)]
fn charge_connection(usage: UsageEntry, policy: PolicyId, word: PolicyWord) -> Quota {
    if word.limited() {
        let Some(limits) = word.generation().and_then(|g| maps::limits(policy, g)) else {
            return Quota::ConnectionsSpent;
        };
        if usage.bytes_out().load() >= limits.bytes_out {
            return Quota::BytesSpent;
        }
        if usage.connections().fetch_add(1) >= limits.connections {
            usage.connections().fetch_add(u64::MAX);
            return Quota::ConnectionsSpent;
        }
        return Quota::Left;
    }
    usage.connections().fetch_add(1);
    Quota::Left
}
