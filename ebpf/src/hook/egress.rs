//! `cgroup_skb/egress`: the authority. The only hook that sees every packet of a worker's sockets.
//!
//! A packet to the verified destination of its socket passes at once; everything else is decided in
//! full, whatever connect or sendmsg said before.

use common::{
    decide::{Quota, Rules, decide},
    event::{DestroyOrder, Hook},
    flow::{Flow, Place, Shape, TCP, UDP},
    layout::{STATE_DOOR, STATE_OBSERVED, Tally, Worker},
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE, connect};
use crate::{
    ctx::{self, Header, Packet},
    emit::{self, What, Who},
    maps,
    rules::{Charge, Kernel},
    state::State,
};

#[inline(always)]
pub(crate) fn run(packet: &Packet) -> i32 {
    let state = packet.state();
    let Some(header) = packet.header() else {
        return refuse_shapeless(packet, state);
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
    let Some((_, verified)) = state.verified() else {
        return false;
    };
    let word = maps::word(state.policy());
    header.shape == Shape::Plain
        && verified.address == header.destination
        && verified.port == header.destination_port
        && verified.protocol == header.protocol
        && word.generation() == Some(verified.generation)
        && (verified.flags & STATE_DOOR != 0 || packet.place() == Place::Remote)
        // Bytes are charged by the full decision.
        && !word.limited()
}

/// The full decision.
#[inline(always)]
fn judge(packet: &Packet, header: &Header, state: Option<State>) -> i32 {
    let flow = flow(packet, header);
    let mut state = state;
    let (who, verdict) = match whose(packet, &mut state) {
        Some(kernel) => {
            let verdict = match carried_over(&kernel, &flow, state) {
                Some(verdict) => verdict,
                None => decide_anew(&kernel, &flow, state),
            };
            if verdict.passes() {
                return PASS;
            }
            (Who::of(&kernel), verdict)
        }
        None => (
            Who::nobody(ctx::deepest(|level| packet.ancestor(level))),
            Verdict::Deny(Reason::UnknownWorker),
        ),
    };
    emit::count(&who, Hook::Egress, flow.protocol, &verdict);
    emit::tell(&who, &what(packet, header), &verdict);
    if let Some(state) = state {
        order_destruction(packet, header, state, &who);
    }
    REFUSE
}

#[inline(always)]
fn decide_anew(kernel: &Kernel, flow: &Flow, state: Option<State>) -> Verdict {
    let verdict = decide(kernel, flow);
    if verdict.passes() {
        emit::count(&Who::of(kernel), Hook::Egress, flow.protocol, &verdict);
        if let (Some(state), Some(generation)) = (state, kernel.word.generation()) {
            state.verify(&connect::verified(flow, verdict, generation));
        }
    }
    verdict
}

/// The view of the maps for the packet's socket. A socket without a state is one that no hook saw
/// made; its cgroup says whose it is.
#[inline(always)]
fn whose(packet: &Packet, state: &mut Option<State>) -> Option<Kernel> {
    let charge = Charge::Bytes(packet.length());
    if let Some(state) = state {
        return Some(Kernel::new(state.session(), state.policy(), charge));
    }
    let (_, worker) = ctx::nearest_worker(|level| packet.ancestor(level))?;
    let Worker {
        session, policy, ..
    } = worker;
    *state = packet.make_state();
    match state {
        Some(state) => state.tag(session, policy, 0),
        None => maps::tally(Tally::StateMissing),
    }
    Some(Kernel::new(session, policy, charge))
}

/// What an earlier decision still says: the packet goes to the verified destination, and the rule
/// that admitted it lives in the generation in force. Only the bytes are left to charge.
#[inline(always)]
fn carried_over(kernel: &Kernel, flow: &Flow, state: Option<State>) -> Option<Verdict> {
    let state = state?;
    let (seen, verified) = state.verified()?;
    let scope = kernel.scope()?;
    let same = flow.shape == Shape::Plain
        && verified.address == flow.address
        && verified.port == flow.port
        && verified.protocol == flow.protocol
        && verified.flags & STATE_OBSERVED == 0
        && (verified.flags & STATE_DOOR != 0 || flow.place == Place::Remote);
    if !same {
        return None;
    }
    if verified.generation != scope.generation {
        if !maps::lives(scope.policy, scope.generation, verified.rule) {
            return None;
        }
        state.renew(seen, &verified, scope.generation);
    }
    match kernel.quota(scope, flow) {
        Quota::Left => Some(Verdict::Allow(verified.rule)),
        Quota::ConnectionsSpent | Quota::BytesSpent => Some(Verdict::Deny(Reason::LimitBytes)),
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
fn refuse_shapeless(packet: &Packet, state: Option<State>) -> i32 {
    let who = match state {
        Some(state) => Who::of(&Kernel::new(
            state.session(),
            state.policy(),
            Charge::Nothing,
        )),
        None => Who::nobody(ctx::deepest(|level| packet.ancestor(level))),
    };
    emit::count(&who, Hook::Egress, 0, &Verdict::Deny(Reason::Protocol));
    REFUSE
}
