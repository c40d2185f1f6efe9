//! Who turns to the resolver: written down in egress, before the resolver can get the packet.

use common::{
    layout::{Client, ClientKey},
    limits::CLIENTS_PER_SECOND,
    verdict::Reason,
};

use crate::{
    ctx::{self, Header},
    emit::NANOSECONDS,
    maps::{self, UsageEntry},
    state::State,
};

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
    let client = Client {
        session: state.session(),
        seen_ns: ctx::now(),
    };
    if maps::renew_client(&key, &client) {
        return Reason::Rule;
    }
    let Some(usage) = maps::usage(client.session) else {
        return Reason::UnknownWorker;
    };
    if !admit(usage, client.seen_ns) {
        return Reason::QueryLimit;
    }
    if maps::write_client(&key, &client) {
        Reason::Rule
    } else {
        Reason::TableFull
    }
}

/// Whether the session may begin with one more source in this second.
#[inline(always)]
fn admit(usage: UsageEntry, time_ns: u64) -> bool {
    let second = time_ns / NANOSECONDS;
    if usage.client_second().load() != second {
        usage.client_second().store(second);
        usage.client_count().store(0);
    }
    usage.client_count().fetch_add(1) < u64::from(CLIENTS_PER_SECOND)
}
