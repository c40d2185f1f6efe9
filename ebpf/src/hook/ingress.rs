//! `cgroup_skb/ingress`: nobody dials a worker. TCP comes in only as the answer to a connection
//! that the worker opened, UDP only from an address and port to which the worker may send. Where the
//! policy opens the session's own loopback, its processes dial each other.

use core::mem::MaybeUninit;

use common::{
    decide::decide,
    event::Hook,
    flow::{Address, Flow, Place, Shape, TCP, UDP},
    id::Generation,
    layout::{ClientKey, STATE_DOOR, STATE_PEER_OWED, STATE_RESOLVER},
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE, own};
use crate::{
    ctx::{Header, Packet},
    emit::{self, What, Who},
    maps,
    rules::{self, Charge, Kernel},
    state::{State, Verified},
};

#[inline(always)]
pub(crate) fn run(packet: &Packet) -> i32 {
    if packet
        .state()
        .is_some_and(|state| is_awaited(packet, state))
    {
        return PASS;
    }
    let mut room = MaybeUninit::uninit();
    let Some(header) = packet.read(&mut room) else {
        return REFUSE;
    };
    match header.protocol {
        TCP if !packet.is_unwelcome(header) => PASS,
        TCP | UDP => judge(packet, header),
        _ => refuse(packet, header, Reason::Inbound),
    }
}

/// The quick look at a plain datagram: it comes from where its socket was verified to send, or from the
/// resolver that it asked. Most end here, so no header is built for it.
#[inline(always)]
fn is_awaited(packet: &Packet, state: State) -> bool {
    let (_, verified) = state.verified();
    verified.protocol == UDP
        && packet.comes_from(&verified)
        && (is_from_verified(packet, state, &verified)
            || (verified.generation != Generation(0)
                && is_from_resolver(packet, state, &verified.address, verified.port)
                && is_to_asker(packet, state)))
}

/// Whether a plain datagram goes to a source that this session has asked from.
#[inline(always)]
fn is_to_asker(packet: &Packet, state: State) -> bool {
    let mut key = asker(state);
    packet.read_destination(&mut key) && maps::is_client(&key, state.session())
}

/// A datagram: from the verified destination, or from one that a decision allows as a destination.
/// What would open a connection: from the session's own processes.
#[inline(always)]
fn judge(packet: &Packet, header: &Header) -> i32 {
    let Some(state) = packet.state() else {
        return refuse(packet, header, Reason::Inbound);
    };
    // What stands behind options is no port where one is looked for.
    if header.shape != Shape::Plain {
        return refuse(packet, header, Reason::Inbound);
    }
    let is_datagram = header.protocol == UDP;
    if is_datagram
        && (is_answer(packet, header, state)
            || (is_from_resolver(packet, state, &header.source, header.source_port)
                && has_asked_from(state, header)))
    {
        return PASS;
    }
    let kernel = Kernel::of(state, Charge::Nothing);
    let flow = Flow {
        protocol: header.protocol,
        address: header.source,
        port: header.source_port,
        place: packet.place(),
        // The kernel has put fragments together before a socket gets it.
        shape: header.shape,
    };
    let verdict = decide(&kernel, &flow);
    let welcome = if matches!(verdict, Verdict::AllowOwn(_)) {
        own::is_sender(packet, header, state)
    } else {
        is_datagram && verdict.passes()
    };
    if welcome {
        return PASS;
    }
    refuse(packet, header, Reason::Inbound)
}

#[inline(always)]
fn is_answer(packet: &Packet, header: &Header, state: State) -> bool {
    let (_, verified) = state.verified();
    verified.address == header.source
        && verified.port == header.source_port
        && verified.protocol == UDP
        && is_from_verified(packet, state, &verified)
}

/// Whether what comes from the verified destination is welcome.
#[inline(always)]
fn is_from_verified(packet: &Packet, state: State, verified: &Verified) -> bool {
    let word = maps::word(state.policy());
    word.generation() == Some(verified.generation)
        && rules::is_of_living(word, state)
        && verified.flags & (STATE_RESOLVER | STATE_PEER_OWED) == 0
        && (verified.flags & STATE_DOOR != 0 || packet.place() == Place::Remote)
}

/// Whether the resolver answers a socket that was sent to it.
#[inline(always)]
fn is_from_resolver(packet: &Packet, state: State, source: &Address, port: u16) -> bool {
    packet.place() == Place::Host
        && rules::is_resolver_address(source)
        && port != 0
        && port == rules::resolver_port()
        && state.has_asked()
}

/// Whether the resolver knows the receiver's end as this session's. Sockets of two sessions may have
/// one port, at once (`SO_REUSEADDR`) or one soon after the other: what one has asked is not for the
/// other to hear.
#[inline(always)]
fn has_asked_from(state: State, header: &Header) -> bool {
    let key = ClientKey {
        address: header.destination,
        port: header.destination_port,
        ..asker(state)
    };
    maps::is_client(&key, state.session())
}

#[inline(always)]
fn asker(state: State) -> ClientKey {
    ClientKey {
        netns: state.netns(),
        protocol: UDP,
        ..ClientKey::default()
    }
}

#[inline(never)]
fn refuse(packet: &Packet, header: &Header, reason: Reason) -> i32 {
    let who = match packet.state() {
        Some(state) => Who::of(&Kernel::new(
            state.session(),
            state.policy(),
            Charge::Nothing,
        )),
        None => Who::nobody(0),
    };
    let verdict = Verdict::Deny(reason);
    emit::count(&who, Hook::Ingress, header.protocol, &verdict);
    let what = What {
        hook: Hook::Ingress,
        address: header.source,
        port: header.source_port,
        local_port: header.destination_port,
        protocol: header.protocol,
        family: header.family,
        socket_type: 0,
        pid: 0,
        cookie: packet.cookie(),
    };
    emit::tell(&who, &what, &verdict);
    REFUSE
}
