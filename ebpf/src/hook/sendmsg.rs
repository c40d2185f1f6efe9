//! `cgroup/sendmsg4`, `sendmsg6`: datagrams with an address of their own. A datagram to the
//! destination that was verified last goes on at once, is neither charged nor reported again.

use common::{event::Hook, layout::STATE_RESOLVER};

use super::{PASS, connect};
use crate::{ctx::Call, maps, rules, state::State};

#[inline(always)]
pub(crate) fn run(call: &Call) -> i32 {
    let Some(state) = call.state() else {
        return connect::refuse_unknown(call, Hook::Sendmsg);
    };
    if is_verified(call, state) || goes_on_to_resolver(call, state) || names_nobody(call) {
        return PASS;
    }
    connect::judge(call, Hook::Sendmsg, state)
}

#[inline(always)]
fn is_verified(call: &Call, state: State) -> bool {
    let (_, verified) = state.verified();
    let word = maps::word(state.policy());
    word.generation() == Some(verified.generation)
        && rules::is_of_living(word, state)
        && verified.address == call.address()
        && verified.port == call.port()
        && verified.protocol == call.protocol()
        // The resolver is not dialled by its own address.
        && verified.flags & STATE_RESOLVER == 0
}

/// A datagram of an IPv6 socket that was connected to a name server by its mapped IPv4 address: the
/// kernel asks here again, with the address of the resolver.
#[inline(always)]
fn goes_on_to_resolver(call: &Call, state: State) -> bool {
    let (_, verified) = state.verified();
    verified.flags & STATE_RESOLVER != 0
        && call.is_connected()
        && verified.address == call.address()
        && verified.port == call.port()
        && verified.port == rules::resolver_port()
}

/// A datagram without an address of its own: it goes where its socket is connected to, which egress
/// looks at. The kernel asks here all the same where a control message is about the datagram's header
/// (its ECN, its TTL), as clients of QUIC send them. No address that is given has port 0: the kernel
/// refuses that before.
#[inline(always)]
fn names_nobody(call: &Call) -> bool {
    call.port() == 0 && call.is_connected()
}
