//! `cgroup_skb/egress`: the authority. The only hook that sees every packet of a worker's sockets.
//!
//! A packet to the verified destination of its socket passes at once; everything else is decided in
//! full, whatever connect or sendmsg said before.

use common::{
    decide::{Quota, Rules, decide},
    event::{DestroyOrder, Hook},
    flow::{Flow, Place, Shape, TCP, UDP},
    id::{Generation, SessionId},
    layout::{STATE_DOOR, STATE_NAME_OWED, STATE_OBSERVED, Tally},
    verdict::{Reason, Verdict},
};

use super::{
    PASS, REFUSE, connect,
    tls::{self, Fate},
};
use crate::{
    ctx::{self, Header, Packet},
    emit::{self, What, Who},
    maps,
    rules::{Charge, Kernel},
    state::State,
};

/// No reason that a packet is refused for: the full decision is still to come.
const UNDECIDED: Reason = Reason::NotAllowed;

#[inline(always)]
pub(crate) fn run(packet: &Packet) -> i32 {
    let state = packet.state();
    let Some(header) = packet.header() else {
        return refuse_shapeless(state);
    };
    if let Some(state) = state
        && is_verified(packet, &header, state)
    {
        return PASS;
    }
    judge(packet, &header, state)
}

/// Whether the packet goes where its socket was verified to go, in the generation in force.
#[inline(always)]
fn is_verified(packet: &Packet, header: &Header, state: State) -> bool {
    let (_, verified) = state.verified();
    let word = maps::word(state.policy());
    header.shape == Shape::Plain
        && verified.address == header.destination
        && verified.port == header.destination_port
        && verified.protocol == header.protocol
        && word.generation() == Some(verified.generation)
        && verified.flags & STATE_NAME_OWED == 0
        && (verified.flags & STATE_DOOR != 0 || packet.place() == Place::Remote)
        // Bytes are charged by the full decision.
        && !word.limited()
}

/// The full decision.
#[inline(always)]
fn judge(packet: &Packet, header: &Header, state: Option<State>) -> i32 {
    let flow = flow(packet, header);
    let mut state = state;
    let (kernel, cgroup) = whose(packet, &mut state);
    let (mut reason, mut owes) = carried_over(&kernel, &flow, state);
    if reason == UNDECIDED {
        (reason, owes) = decide_anew(&kernel, &flow, state);
    }
    let mut told = false;
    if reason == Reason::Rule {
        if !owes {
            return PASS;
        }
        match tls::judge(packet, header, &kernel, state, &what(packet, header)) {
            Fate::Pass => return PASS,
            Fate::Hold => return REFUSE,
            Fate::Refuse(why) => reason = why,
            Fate::Refused => told = true,
        }
    }
    let verdict = Verdict::Deny(reason);
    let who = Who {
        cgroup,
        ..Who::of(&kernel)
    };
    if !told {
        emit::count(&who, Hook::Egress, flow.protocol, &verdict);
        emit::tell(&who, &what(packet, header), &verdict);
    }
    if let Some(state) = state {
        order_destruction(packet, header, state, &who);
    }
    REFUSE
}

/// The reason of a refusal, or [`Reason::Rule`] for what passes; and whether it owes a name.
#[inline(always)]
fn decide_anew(kernel: &Kernel, flow: &Flow, state: Option<State>) -> (Reason, bool) {
    let verdict = decide(kernel, flow);
    if !verdict.passes() {
        return (verdict.reason(), false);
    }
    let owes = matches!(verdict, Verdict::AllowNamed(_));
    emit::count(&Who::of(kernel), Hook::Egress, flow.protocol, &verdict);
    if let (Some(state), Some(generation)) = (state, kernel.word.generation())
        // One that was refused for its first bytes stays so.
        && !(owes && state.is_ordered())
    {
        state.verify(&connect::verified(flow, verdict, generation));
    }
    (Reason::Rule, owes)
}

/// The view of the maps for the packet's socket, and its cgroup where nobody's. A socket without a
/// state is one that no hook saw made; its cgroup says whose it is.
#[inline(always)]
fn whose(packet: &Packet, state: &mut Option<State>) -> (Kernel, u64) {
    let charge = Charge::Bytes(packet.length());
    if let Some(state) = state {
        return (Kernel::new(state.session(), state.policy(), charge), 0);
    }
    let (cgroup, worker) = ctx::nearest_worker(|level| packet.ancestor(level));
    if worker.session == SessionId(0) {
        return (Kernel::new(worker.session, worker.policy, charge), cgroup);
    }
    *state = packet.make_state();
    match state {
        Some(state) => state.tag(worker.session, worker.policy, 0),
        None => maps::tally(Tally::StateMissing),
    }
    (Kernel::new(worker.session, worker.policy, charge), 0)
}

/// What an earlier decision still says: the packet goes to the verified destination, and the rule
/// that admitted it lives in the generation in force. Only the bytes are left to charge; and a name,
/// where one is owed.
#[inline(always)]
fn carried_over(kernel: &Kernel, flow: &Flow, state: Option<State>) -> (Reason, bool) {
    let (Some(state), Some(scope)) = (state, kernel.scope()) else {
        return (UNDECIDED, false);
    };
    let (seen, verified) = state.verified();
    let same = flow.shape == Shape::Plain
        && verified.generation != Generation(0)
        && verified.address == flow.address
        && verified.port == flow.port
        && verified.protocol == flow.protocol
        && verified.flags & STATE_OBSERVED == 0
        && (verified.flags & STATE_DOOR != 0 || flow.place == Place::Remote);
    if !same {
        return (UNDECIDED, false);
    }
    let owes = verified.flags & STATE_NAME_OWED != 0;
    if verified.generation != scope.generation {
        if !maps::lives(scope.policy, scope.generation, verified.rule) {
            return (UNDECIDED, false);
        }
        state.renew(seen, &verified, scope.generation);
    }
    match kernel.quota(scope, flow) {
        Quota::Left => (Reason::Rule, owes),
        Quota::ConnectionsSpent | Quota::BytesSpent => (Reason::LimitBytes, false),
    }
}

#[inline(always)]
fn flow(packet: &Packet, header: &Header) -> Flow {
    let mut protocol = header.protocol;
    if header.shape == Shape::Odd {
        // An extension header is not the socket's protocol.
        if let Some((_, own)) = packet.socket_kind() {
            protocol = own;
        }
    }
    Flow {
        protocol,
        address: header.destination,
        port: header.destination_port,
        place: packet.place(),
        shape: header.shape,
    }
}

#[inline(always)]
fn what(packet: &Packet, header: &Header) -> What {
    What {
        hook: Hook::Egress,
        address: header.destination,
        port: header.destination_port,
        local_port: header.source_port,
        protocol: header.protocol,
        family: header.family,
        socket_type: 0,
        pid: 0,
        cookie: packet.cookie(),
    }
}

/// A refused packet makes TCP and connected UDP wait for answers that never come: the agent is told
/// to destroy the socket, once.
#[inline(always)]
fn order_destruction(packet: &Packet, header: &Header, state: State, who: &Who) {
    let Some((family, protocol)) = packet.socket_kind() else {
        return;
    };
    let breakable =
        protocol == TCP || (protocol == UDP && packet.is_connected_to(header.destination_port));
    if !breakable || state.is_ordered() {
        return;
    }
    let sent = maps::send_order(|| DestroyOrder {
        cookie: packet.cookie(),
        netns: state.netns(),
        session: who.session,
        local: header.source,
        remote: header.destination,
        local_port: header.source_port,
        remote_port: header.destination_port,
        protocol,
        family,
        pad: 0,
    });
    if sent {
        state.mark_ordered();
    }
}

/// Refuses what is no IP packet with ports: too short, or of another version.
#[inline(always)]
fn refuse_shapeless(state: Option<State>) -> i32 {
    let who = match state {
        Some(state) => Who::of(&Kernel::new(
            state.session(),
            state.policy(),
            Charge::Nothing,
        )),
        None => Who::nobody(0),
    };
    emit::count(&who, Hook::Egress, 0, &Verdict::Deny(Reason::Protocol));
    REFUSE
}
