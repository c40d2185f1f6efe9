//! The rules of a decision as the kernel's maps hold them.

use common::{
    decide::{Quota, Rules, Scope},
    flow::Flow,
    id::{PolicyId, SessionId},
    layout::PolicyWord,
    rule::Match,
};

use crate::maps::{self, UsageEntry};

/// What a decision is charged with.
#[derive(Clone, Copy)]
pub(crate) enum Charge {
    /// A connection: connect, and a new destination of sendmsg.
    Connection,
    /// The bytes of a packet.
    Bytes(u32),
    /// Nothing: a packet that comes in.
    Nothing,
}

/// One decision's view of the maps. The policy's word is read when it is made, and only then.
pub(crate) struct Kernel {
    pub(crate) session: SessionId,
    pub(crate) policy: PolicyId,
    pub(crate) word: PolicyWord,
    usage: Option<UsageEntry>,
    charge: Charge,
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
        maps::find(scope.policy, scope.generation, flow)
    }

    #[inline(always)]
    fn goes_to_resolver(&self, _flow: &Flow) -> bool {
        false
    }

    #[inline(always)]
    fn granted(&self, _scope: Scope, _flow: &Flow) -> Option<Match> {
        None
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
