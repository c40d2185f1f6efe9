//! What is turned away before there is a call: told to log and record, never to whom it concerns.

use crate::{
    audit::Caller,
    broker::{Broker, reason::Refused},
};

/// Notes that a peer was turned away at the door.
pub(super) fn away(broker: &Broker, peer: Caller, refused: &Refused) {
    tracing::warn!(
        caller.uid = peer.uid,
        caller.pid = peer.pid,
        reason = refused.reason.code(),
        detail = refused.detail,
        "message refused at the door"
    );
    broker.turned_away(peer, refused);
}
