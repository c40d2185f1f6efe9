//! Loopback among a session's own processes: what `Verdict::AllowOwn` demands, carried out.
//!
//! Workers share the host's loopback, so an address and a port say nothing; the socket at the other
//! end does. Connect and bind answer quickly, egress and ingress have the last word: only there both
//! ends of a flow are known.

use common::{
    decide::Rules,
    flow::{Address, Flow, Place, Shape, TCP},
    layout::STATE_PEER_OWED,
    rule::OWN,
    verdict::{Reason, Verdict},
};

use crate::{
    ctx::{self, Call, Direction, Header, Packet, Peer},
    rules::Kernel,
    state::State,
};

const EACCES: i32 = 13;
const EADDRINUSE: i32 = 98;
const ECONNREFUSED: i32 = 111;
/// The first port that is not kept for root. The kernel's own bound may be lower.
const UNPRIVILEGED: u16 = 1024;

/// The verdict on a connect or a datagram, once it is looked who would get it. Without a listener of the
/// session's own the program hears what it would hear where nobody listens, and may try again.
///
/// A datagram's receiver may be a socket that takes nothing from others than its peer, which can not be
/// found before the source is known: what nobody seems to get is left to egress.
#[inline(always)]
pub(crate) fn checked(call: &Call, state: State, flow: &Flow, verdict: Verdict) -> Verdict {
    if !matches!(verdict, Verdict::AllowOwn(_)) {
        return verdict;
    }
    let holder = call.holder(flow.address, flow.port, state.session());
    if holder == Peer::Own || (holder == Peer::Nobody && flow.protocol != TCP) {
        return verdict;
    }
    ctx::set_errno(ECONNREFUSED);
    Verdict::Deny(Reason::NotOwn)
}

/// [`Reason::Rule`] where a packet goes to a socket of the same session.
///
/// A connection is asked for until its handshake is over. From then on both ends are bound to each
/// other: another socket that takes the port meanwhile gets none of its data, as it has seen no SYN. A
/// datagram goes to whoever holds the port at that moment, so each one is asked for.
#[inline(always)]
pub(crate) fn judge(packet: &Packet, header: &Header, state: State) -> Reason {
    if packet.place() != Place::Host
        || packet.peer(header, state.session(), Direction::Out) != Peer::Own
    {
        return Reason::NotOwn;
    }
    if header.protocol == TCP && packet.has_met() {
        let (seen, verified) = state.verified();
        if verified.flags & STATE_PEER_OWED != 0
            && verified.address == header.destination
            && verified.port == header.destination_port
        {
            // Where another hook writes, the next packet is asked for too.
            state.settle(seen, verified.rule, verified.flags & !STATE_PEER_OWED);
        }
    }
    Reason::Rule
}

/// Whether a packet that comes in, and that a rule welcomes by its source, was sent by the same
/// session: to a listener, or to a socket of UDP. Two that open a connection to each other at once are
/// not let: one of them may be the socket itself.
#[inline(always)]
pub(crate) fn is_sender(packet: &Packet, header: &Header, state: State) -> bool {
    (header.protocol != TCP || packet.is_listener())
        && packet.place() == Place::Host
        && packet.peer(header, state.session(), Direction::In) == Peer::Own
}

/// The error number for a bind to a port of the worker's choice, if it is refused. The wildcard address
/// is taken for loopback, which is all that ever comes in there.
#[inline(always)]
pub(crate) fn refusal_to_bind(call: &Call, kernel: &Kernel) -> Option<i32> {
    let (address, port) = (call.address(), call.port());
    let (mut loopback, mut has_both) = (address, false);
    if address.high() == 0 && (address.low() == 0 || address.low() == 0xffff_0000_0000) {
        loopback = Address::from_v4([127, 0, 0, 1]);
        has_both = address.low() == 0;
    }
    if port < UNPRIVILEGED || !opens(call, kernel, loopback) {
        return Some(EACCES);
    }
    // Sockets of UDP may share a port where both agree: a worker shares none with a stranger.
    let mut foreign = call.holder(loopback, port, kernel.session) == Peer::Foreign;
    if has_both && !foreign {
        let mut one = [0; 16];
        one[15] = 1;
        foreign = call.holder(Address(one), port, kernel.session) == Peer::Foreign;
    }
    foreign.then_some(EADDRINUSE)
}

/// Whether the policy opens this loopback address to the session's own processes.
#[inline(always)]
fn opens(call: &Call, kernel: &Kernel, address: Address) -> bool {
    let Some(scope) = kernel.scope() else {
        return false;
    };
    let flow = Flow {
        protocol: call.protocol(),
        address,
        port: call.port(),
        place: Place::Host,
        shape: Shape::Plain,
    };
    kernel
        .find(scope, &flow)
        .is_some_and(|found| found.flags & OWN != 0)
}
