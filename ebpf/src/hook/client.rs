//! Who turns to the resolver: written down in egress, before the resolver can get the packet; and how
//! often a session may.

use common::{
    flow::{Address, UDP},
    layout::{Client, ClientKey, Config},
    limits::CLIENTS_PER_SECOND,
    verdict::Reason,
};

use crate::{
    ctx::{self, Direction, Header, Packet, Peer},
    emit::NANOSECONDS,
    maps::{self, UsageEntry},
    state::State,
};

/// How often it is tried to take a question from what the session may ask, while its other processors
/// take some.
const TRIES: u32 = 8;

/// What the quick look says of a packet to the resolver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It passes: its source is known as the session's.
    Passes,
    /// The session asks too often.
    OverRate,
    /// The full decision is still to come; nothing was taken from what the session may ask.
    Unknown,
}

/// Looks at a plain packet that goes to the resolver. Two elements are read, none is written anew.
#[inline(always)]
pub(crate) fn again(packet: &Packet, state: State, protocol: u16) -> Known {
    let mut key = ClientKey {
        netns: state.netns(),
        protocol,
        ..ClientKey::default()
    };
    if !packet.read_source(&mut key) || !packet.is_from_own(&key.address) {
        return Known::Unknown;
    }
    let client = client(state);
    // A session without it has ended.
    let Some(usage) = maps::usage(client.session) else {
        return Known::Unknown;
    };
    if !maps::renew_client(&key, &client) {
        return Known::Unknown;
    }
    if may_ask(usage, protocol, packet.datagrams(), client.seen_ns) {
        Known::Passes
    } else {
        Known::OverRate
    }
}

/// [`Reason::Rule`] once the resolver can know whose packet it is; else why it must not get it. A
/// source that is not known yet counts against what a session may begin in a second.
///
/// A datagram may carry a source of its sender's choice (`IP_PKTINFO`, and no filter of system calls
/// sees it): another address than its socket has, with the port of somebody else's socket there. The
/// resolver would take the question for the other's, or the other would get the reply. And a socket that
/// may have a foreign address (`IP_FREEBIND`, `IP_TRANSPARENT`) would have the resolver send the reply,
/// with the name in it, wherever it likes.
#[inline(never)]
pub(crate) fn note(packet: &Packet, header: &Header, state: State) -> Reason {
    if !packet.is_from_own(&header.source) || !is_here(&header.source) {
        return Reason::SourceForged;
    }
    let key = ClientKey {
        netns: state.netns(),
        address: header.source,
        port: header.source_port,
        protocol: header.protocol,
        pad: 0,
    };
    let client = client(state);
    let Some(usage) = maps::usage(client.session) else {
        return Reason::UnknownWorker;
    };
    if !may_ask(usage, key.protocol, packet.datagrams(), client.seen_ns) {
        return Reason::QueryLimit;
    }
    if maps::renew_client(&key, &client) {
        return Reason::Rule;
    }
    // Two sockets may share a port where both say so (`SO_REUSEADDR`): who gets the reply has asked.
    if key.protocol == UDP && packet.peer(header, client.session, Direction::In) == Peer::Foreign {
        return Reason::SourceForged;
    }
    if !may_begin(usage, client.seen_ns) {
        return Reason::QueryLimit;
    }
    if maps::write_client(&key, &client) {
        Reason::Rule
    } else {
        Reason::TableFull
    }
}

/// Whether what is sent to this address stays on this host.
#[inline(always)]
fn is_here(address: &Address) -> bool {
    let is_loopback = match address.v4() {
        Some(v4) => v4 >> 24 == 127,
        None => address.high() == 0 && address.low() == 1,
    };
    is_loopback || maps::is_local(address)
}

#[inline(always)]
fn client(state: State) -> Client {
    Client {
        session: state.session(),
        seen_ns: ctx::now(),
    }
}

/// Takes so many datagrams from what the session may ask, all or none. What is over would get no reply,
/// and would stand in the resolver's socket before the questions of others. Of connections the resolver
/// reads as much as it wants.
#[inline(always)]
fn may_ask(usage: UsageEntry, protocol: u16, datagrams: u32, now_ns: u64) -> bool {
    if protocol != UDP {
        return true;
    }
    let each = maps::config(Config::QuestionNs);
    let ahead = maps::config(Config::QuestionsAheadNs);
    let others = each * u64::from(datagrams - 1);
    let mut turn = 0;
    while turn < TRIES {
        let until = usage.asked_until_ns().load();
        let begin = until.max(now_ns);
        if begin - now_ns + others > ahead {
            break;
        }
        if usage
            .asked_until_ns()
            .exchange(until, begin + others + each)
        {
            return true;
        }
        turn += 1;
    }
    usage.questions_dropped().fetch_add(u64::from(datagrams));
    false
}

/// Whether the session may begin with one more source in this second.
#[inline(always)]
fn may_begin(usage: UsageEntry, time_ns: u64) -> bool {
    let second = time_ns / NANOSECONDS;
    if usage.client_second().load() != second {
        usage.client_second().store(second);
        usage.client_count().store(0);
    }
    usage.client_count().fetch_add(1) < u64::from(CLIENTS_PER_SECOND)
}
