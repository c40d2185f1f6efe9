//! Sockets on their way to the resolver, and whose they are.

use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use common::{
    id::SessionId,
    layout::{Client, ClientKey},
    limits::CLIENTS_MAX,
};

/// The session behind each source, as the resolver sees it.
#[map]
static CLIENTS: HashMap<ClientKey, Client> =
    HashMap::with_max_entries(CLIENTS_MAX, BPF_F_NO_PREALLOC);

/// Writes down who turns to the resolver; `false` where there is no room.
#[inline(always)]
pub(crate) fn write_client(key: &ClientKey, client: &Client) -> bool {
    CLIENTS.insert(key, client, 0).is_ok()
}

/// Whether this source is known as the session's.
#[inline(always)]
pub(crate) fn is_client(key: &ClientKey, session: SessionId) -> bool {
    let Some(known) = CLIENTS.get_ptr(key) else {
        return false;
    };
    // SAFETY: the map gave the entry, and the program holds the RCU read lock.
    let owner = unsafe { &raw const (*known).session };
    // SAFETY: as above; written once, before the entry is in the map.
    (unsafe { owner.read_volatile() }) == session
}

/// Renews a client, if this source is known as the session's.
#[inline(always)]
pub(crate) fn renew_client(key: &ClientKey, client: &Client) -> bool {
    let Some(known) = CLIENTS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the map gave the entry, and the program holds the RCU read lock.
    let session = unsafe { &raw const (*known).session };
    // SAFETY: as above; written once, before the entry is in the map.
    if unsafe { session.read_volatile() } != client.session {
        return false;
    }
    // SAFETY: the map gave the entry, and the program holds the RCU read lock.
    let seen = unsafe { &raw mut (*known).seen_ns };
    // SAFETY: as above; one store of 64 bits does not tear.
    unsafe { seen.write_volatile(client.seen_ns) };
    true
}
