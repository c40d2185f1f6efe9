//! Who turns to the resolver: written down in egress, before the resolver can get the packet; and how
//! often a session may.

use common::{
    flow::UDP,
    layout::{Client, ClientKey, Config},
    limits::CLIENTS_PER_SECOND,
    verdict::Reason,
};

use crate::{
    ctx::{self, Header, Packet},
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
    if !packet.read_source(&mut key) {
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
    if may_ask(usage, protocol, client.seen_ns) {
        Known::Passes
    } else {
        Known::OverRate
    }
}

/// [`Reason::Rule`] once the resolver can know whose packet it is; else why it must not get it. A
/// source that is not known yet counts against what a session may begin in a second.
#[inline(never)]
pub(crate) fn note(header: &Header, state: State) -> Reason {
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
    if !may_ask(usage, key.protocol, client.seen_ns) {
        return Reason::QueryLimit;
    }
    if maps::renew_client(&key, &client) {
        return Reason::Rule;
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

#[inline(always)]
fn client(state: State) -> Client {
    Client {
        session: state.session(),
        seen_ns: ctx::now(),
    }
}

/// Takes a datagram from what the session may ask. What is over would get no reply, and would stand in
/// the resolver's socket before the questions of others. Of connections the resolver reads as much as it
/// wants.
#[inline(always)]
fn may_ask(usage: UsageEntry, protocol: u16, now_ns: u64) -> bool {
    if protocol != UDP {
        return true;
    }
    let each = maps::config(Config::QuestionNs);
    let ahead = maps::config(Config::QuestionsAheadNs);
    let mut turn = 0;
    while turn < TRIES {
        let until = usage.asked_until_ns().load();
        let begin = until.max(now_ns);
        if begin - now_ns > ahead {
            break;
        }
        if usage.asked_until_ns().exchange(until, begin + each) {
            return true;
        }
        turn += 1;
    }
    usage.questions_dropped().fetch_add(1);
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
