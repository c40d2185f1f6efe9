//! Lines for whoever looks for a mistake on the kernel side: what an event does not say. Off unless
//! asked for at start: the loader sets the level before the verifier sees the programs, and the
//! verifier takes out what is off.
//!
//! A line is kilobytes of code: they stand only where a socket is refused or met for the first time,
//! never on the way of every packet.

use aya_log_ebpf::{debug, info, warn};
use common::id::SessionId;

/// A socket is made in a cgroup of no session: the deepest cgroup that was asked.
#[inline(always)]
pub(crate) fn unknown_worker(cgroup: u64) {
    info!(&(), "sock_create: cgroup {} is of no session", cgroup);
}

/// No memory was left for the state of a session's new socket.
#[inline(always)]
pub(crate) fn no_storage(session: SessionId) {
    warn!(
        &(),
        "sock_create: no memory for a socket of session {}", session.0
    );
}

/// No memory was left for the state of a session's socket that sends without one.
#[inline(always)]
pub(crate) fn no_storage_to_send(session: SessionId) {
    warn!(
        &(),
        "egress: no memory for a socket of session {}", session.0
    );
}

/// A session's socket sends that `sock_create` did not see: one of a listener, say.
#[inline(always)]
pub(crate) fn adopted(session: SessionId) {
    debug!(
        &(),
        "egress: a socket of session {} had no state", session.0
    );
}
