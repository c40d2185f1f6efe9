//! `cgroup_skb/egress`: the authority. The only hook that sees every packet of a worker's sockets.
//!
//! A packet to the verified destination of its socket passes at once; everything else is decided in
//! full, whatever connect or sendmsg said before.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use common::{
    decide::{Quota, Rules, decide},
    event::{DestroyOrder, Hook},
    flow::{Flow, Place, Shape, TCP, UDP},
    id::{Generation, SessionId},
    layout::{
        STATE_DOOR, STATE_NAME_OWED, STATE_OBSERVED, STATE_OWN, STATE_PEER_OWED, STATE_RESOLVER,
        SocketState, Tally,
    },
    verdict::{Reason, Verdict},
};

use super::{
    PASS, REFUSE,
    client::{self, Known},
    connect, own,
    tls::{self, Fate},
};
use crate::{
    ctx::{self, Header, Packet},
    diagnose,
    emit::{self, What, Who},
    maps,
    rules::{self, Charge, Kernel},
    state::{State, Verified},
};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ruling {
    /// It passes.
    Pass,
    /// It passes on the promise of a TLS handshake.
    Owed,
    /// It passes where its receiver is the session's own.
    Own,
    /// It goes to the resolver.
    Resolver,
    /// The full decision is still to come.
    Undecided,
    /// It does not pass.
    Refuse(Reason),
}

impl Ruling {
    /// It passes where a rule says so.
    #[inline(always)]
    fn of(reason: Reason) -> Self {
        if reason == Reason::Rule {
            Self::Pass
        } else {
            Self::Refuse(reason)
        }
    }
}

/// The steps after the quick one are functions of their own, called one after the other: a program
/// has 512 bytes of stack, and those that are called in turn share them.
#[inline(always)]
pub(crate) fn run(packet: &Packet) -> i32 {
    let known = packet.state();
    let settled = match known {
        Some(state) => settled(packet.context(), state.entry()),
        None => UNSETTLED,
    };
    if settled == SETTLED {
        return PASS;
    }
    let mut room = MaybeUninit::uninit();
    let Some(header) = packet.read(&mut room) else {
        return refuse_shapeless(known);
    };
    let state = match known {
        Some(state) => state,
        None => match adopt(packet, header) {
            Some(state) => state,
            None => return REFUSE,
        },
    };
    let mut ruling = if settled == OVER_RATE {
        Ruling::Refuse(Reason::QueryLimit)
    } else {
        judge(packet, header, state)
    };
    if ruling == Ruling::Resolver {
        ruling = Ruling::of(client::note(packet, header, state));
    }
    if ruling == Ruling::Own {
        ruling = Ruling::of(own::judge(packet, header, state));
    }
    if ruling == Ruling::Owed {
        return match tls::judge(packet, header, state) {
            Fate::Pass => PASS,
            Fate::Hold => REFUSE,
            Fate::Refused => {
                order_destruction(packet, header, state);
                REFUSE
            }
        };
    }
    match ruling {
        Ruling::Pass => PASS,
        Ruling::Refuse(reason) => refuse(packet, header, state, reason),
        Ruling::Owed | Ruling::Own | Ruling::Resolver | Ruling::Undecided => REFUSE,
    }
}

/// What [`settled`] says: the full decision is still to come, ...
const UNSETTLED: u32 = 0;
/// ... the packet passes, ...
const SETTLED: u32 = 1;
/// ... or it goes to the resolver too often.
const OVER_RATE: u32 = 2;

/// Whether the packet goes where its socket was verified to go, in the generation in force, and
/// nothing else is left to ask. Most packets end here, so no header is built for it.
///
/// A global function: the verifier follows it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settled(context: *mut __sk_buff, state: *mut SocketState) -> u32 {
    let Some(state) = State::new(state) else {
        return UNSETTLED;
    };
    let packet = Packet::handed(context);
    let (_, verified) = state.verified();
    let word = maps::word(state.policy());
    if word.generation() != Some(verified.generation) {
        return UNSETTLED;
    }
    if verified.flags == STATE_RESOLVER {
        return asked(&packet, state, &verified);
    }
    // The first packets of a TLS connection are read.
    let settled = verified.flags & (STATE_RESOLVER | STATE_NAME_OWED | STATE_PEER_OWED) == 0
        && (verified.flags & STATE_DOOR != 0 || packet.place() == Place::Remote)
        && !word.limited() // Bytes are charged by the full decision.
        && rules::is_of_living(word, state)
        && packet.goes_to(&verified);
    if settled { SETTLED } else { UNSETTLED }
}

/// The same of a socket that was sent to the resolver: its packet goes there, by loopback, the resolver
/// is still there, and knows whose packet it is.
#[inline(always)]
fn asked(packet: &Packet, state: State, verified: &Verified) -> u32 {
    let goes_there = packet.place() == Place::Host
        && rules::is_resolver(state.netns(), &verified.address, verified.port)
        && packet.goes_to(verified);
    if !goes_there {
        return UNSETTLED;
    }
    match client::again(packet, state, verified.protocol) {
        Known::Passes => SETTLED,
        Known::OverRate => OVER_RATE,
        Known::Unknown => UNSETTLED,
    }
}

/// Makes the state of a socket that no hook saw made: its cgroup says whose it is. Reports and returns
/// nothing where it is nobody's, or where there is no memory for the state.
#[inline(never)]
fn adopt(packet: &Packet, header: &Header) -> Option<State> {
    let (cgroup, worker) = ctx::nearest_worker(|level| packet.ancestor(level));
    let mut reason = Reason::UnknownWorker;
    if worker.session != SessionId(0) {
        if let Some(state) = packet.make_state() {
            state.tag(worker.session, worker.policy, 0);
            diagnose::adopted(worker.session);
            return Some(state);
        }
        maps::tally(Tally::StateMissing);
        diagnose::no_storage_to_send(worker.session);
        reason = Reason::TableFull;
    }
    let verdict = Verdict::Deny(reason);
    let who = Who {
        session: worker.session,
        policy: worker.policy,
        generation: Generation(0),
        cgroup,
    };
    emit::count(&who, Hook::Egress, header.protocol, &verdict);
    emit::tell(&who, &what(packet, header), &verdict);
    None
}

/// [`Ruling`]s as numbers; that of a refusal is its reason's, which are bytes.
const PASSES: u32 = 0x100;
const OWES: u32 = 0x101;
const TO_RESOLVER: u32 = 0x102;
const TO_OWN: u32 = 0x103;

#[inline(always)]
fn judge(packet: &Packet, header: &Header, state: State) -> Ruling {
    match judge_packet(packet.context(), header, state.entry()) {
        PASSES => Ruling::Pass,
        OWES => Ruling::Owed,
        TO_RESOLVER => Ruling::Resolver,
        TO_OWN => Ruling::Own,
        reason => {
            #[expect(clippy::cast_possible_truncation, reason = "a reason's number")]
            let reason = Reason::from_number(reason as u8);
            Ruling::Refuse(reason.unwrap_or(Reason::NotAllowed))
        }
    }
}

/// A global function: the verifier follows it once, whatever leads to it and whatever comes after.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_packet(
    context: *mut __sk_buff,
    header: *const Header,
    state: *mut SocketState,
) -> u32 {
    let (Some(header), Some(state)) = (Header::handed(header), State::new(state)) else {
        return Reason::NotAllowed as u32;
    };
    match rule(&Packet::handed(context), header, state) {
        Ruling::Pass => PASSES,
        Ruling::Owed => OWES,
        Ruling::Resolver => TO_RESOLVER,
        Ruling::Own => TO_OWN,
        Ruling::Refuse(reason) => reason as u32,
        Ruling::Undecided => Reason::NotAllowed as u32,
    }
}

/// What an earlier decision still says, else the full decision.
#[inline(always)]
fn rule(packet: &Packet, header: &Header, state: State) -> Ruling {
    let flow = flow(packet, header);
    let kernel = Kernel::of(state, Charge::Bytes(packet.length()));
    let ruling = carried_over(&kernel, &flow, state);
    if ruling == Ruling::Undecided {
        return decide_anew(&kernel, &flow, state);
    }
    ruling
}

/// The full decision, remembered where the packet passes.
#[inline(always)]
fn decide_anew(kernel: &Kernel, flow: &Flow, state: State) -> Ruling {
    let verdict = decide(kernel, flow);
    match verdict {
        Verdict::Deny(reason) => return Ruling::Refuse(reason),
        Verdict::Resolver => return Ruling::Resolver,
        Verdict::Allow(_) | Verdict::AllowNamed(_) | Verdict::AllowOwn(_) | Verdict::Observe(_) => {
        }
    }
    emit::count(&Who::of(kernel), Hook::Egress, flow.protocol, &verdict);
    let owes = connect::is_owed(flow, &verdict);
    // What was refused for its first bytes stays so.
    let stays = owes && state.is_ordered();
    if !stays && let Some(generation) = kernel.word.generation() {
        state.verify(&connect::verified(flow, verdict, generation));
    }
    if matches!(verdict, Verdict::AllowOwn(_)) {
        return Ruling::Own;
    }
    if owes { Ruling::Owed } else { Ruling::Pass }
}

/// What an earlier decision still says: the packet goes to the verified destination, and the rule
/// that admitted it lives in the generation in force. Only the bytes are left to charge.
#[inline(always)]
fn carried_over(kernel: &Kernel, flow: &Flow, state: State) -> Ruling {
    let Some(scope) = kernel.scope() else {
        return Ruling::Undecided;
    };
    let (seen, verified) = state.verified();
    let same = flow.shape == Shape::Plain
        && verified.generation != Generation(0)
        && verified.address == flow.address
        && verified.port == flow.port
        && verified.protocol == flow.protocol
        && verified.flags & (STATE_OBSERVED | STATE_RESOLVER) == 0
        && (verified.flags & STATE_DOOR != 0 || flow.place == Place::Remote);
    if !same {
        return Ruling::Undecided;
    }
    if verified.generation != scope.generation {
        if !maps::lives(scope.policy, scope.generation, verified.rule) {
            return Ruling::Undecided;
        }
        state.renew(seen, scope.generation);
    }
    if verified.flags & STATE_PEER_OWED != 0 {
        return Ruling::Own;
    }
    if verified.flags & STATE_OWN != 0 {
        return Ruling::Pass;
    }
    match kernel.quota(scope, flow) {
        Quota::Left if verified.flags & STATE_NAME_OWED != 0 => Ruling::Owed,
        Quota::Left => Ruling::Pass,
        Quota::ConnectionsSpent | Quota::BytesSpent => Ruling::Refuse(Reason::LimitBytes),
    }
}

/// Refuses a packet, reports it, and has its socket destroyed where that can be done.
#[inline(never)]
fn refuse(packet: &Packet, header: &Header, state: State, reason: Reason) -> i32 {
    let verdict = Verdict::Deny(reason);
    let who = Who::of(&Kernel::of(state, Charge::Nothing));
    emit::count(&who, Hook::Egress, header.protocol, &verdict);
    emit::tell(&who, &what(packet, header), &verdict);
    // A client of UDP may be there before its server, or ask again in a moment: it keeps its socket.
    let passes_over = matches!(reason, Reason::NotOwn | Reason::QueryLimit);
    if !passes_over || header.protocol == TCP {
        order_destruction(packet, header, state);
    }
    REFUSE
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
pub(super) fn what(packet: &Packet, header: &Header) -> What {
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
#[inline(never)]
fn order_destruction(packet: &Packet, header: &Header, state: State) {
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
        session: state.session(),
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
#[inline(never)]
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
