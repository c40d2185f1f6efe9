//! What is refused before anybody is known: how much of it is recorded one by one, what is counted
//! instead, and who has to wait.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Broker, Inner,
    call::{Door, trail::Trail},
    flood::Noted,
    reason::{Reason, Refused},
};
use crate::audit::Caller;

/// Records of what was turned away that are written at once. Beyond them it is counted, as what a user
/// sends too fast is: a flood of nonsense must not become one of tasks, lines and disk.
pub(super) const AWAY_MAX: usize = 64;

/// What became of something that was turned away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It gets a record.
    Recorded,
    /// It is counted; so is the next one of the same user, for a while.
    Counted,
}

impl Broker {
    /// Records what was turned away at a door, before there was a call.
    pub fn turned_away(&self, peer: Caller, refused: &Refused) {
        self.turn_away(peer, refused);
    }

    /// The same of several of one user at once: recorded as far as its share goes, and counted.
    pub(in crate::broker) fn turned_away_often(&self, peer: Caller, refused: &Refused, count: u64) {
        for left in (0..count).rev() {
            if self.turn_away(peer, refused) == Told::Counted {
                let trail = Trail::new(Door::Lines, peer);
                trail.over_often(&self.0.calls, refused.reason.code(), left);
                return self.0.floods.leave(peer.uid, left, Instant::now());
            }
        }
    }

    fn turn_away(&self, peer: Caller, refused: &Refused) -> Told {
        let (inner, mut refused) = (Arc::clone(&self.0), refused.clone());
        let trail = Trail::new(Door::Lines, peer);
        trail.over(&inner.calls, refused.reason.code());
        let place = Arc::clone(&inner.away).try_acquire_owned();
        let Noted::Recorded { unrecorded } = inner.floods.note(peer.uid, Instant::now()) else {
            return Told::Counted;
        };
        let Ok(place) = place else {
            let unrecorded = unrecorded.saturating_add(1);
            inner.floods.leave(peer.uid, unrecorded, Instant::now());
            return Told::Counted;
        };
        tell_of(&mut refused, unrecorded);
        tracing::warn!(
            caller.uid = peer.uid,
            caller.pid = peer.pid,
            reason = refused.reason.code(),
            detail = refused.detail,
            "message refused at the door"
        );
        tokio::spawn(async move {
            if let Err(error) = inner.refused(trail.record(), &refused).await {
                tracing::error!(%error, "refused message not recorded");
            }
            drop(place);
        });
        Told::Recorded
    }

    /// What this user has to wait for the answer to a message that is refused, where it had too many.
    pub(in crate::broker) fn penalty(&self, peer: Caller) -> Option<Duration> {
        self.0.floods.penalty(peer.uid, Instant::now())
    }

    /// Notes an answer that the door gives to anybody.
    pub(in crate::broker) fn gives(&self, peer: Caller) {
        self.0.floods.note_free(peer.uid, Instant::now());
    }
}

impl Inner {
    /// Notes a refusal; whether it gets a log line and a record of its own. What is refused
    /// before its caller was known gets one until its user has had too many.
    pub(super) fn noted(&self, refused: &mut Refused, trail: &Trail) -> bool {
        if refused.reason.is_before_known() {
            let uid = trail.record().caller.uid;
            match self.floods.note(uid, Instant::now()) {
                Noted::Counted => return false,
                Noted::Recorded { unrecorded } => tell_of(refused, unrecorded),
            }
        }
        true
    }

    /// Records how many refusals of each user were only counted, where no further one came to tell it.
    pub(super) async fn tell_of_floods(&self) {
        for (uid, unrecorded) in self.floods.untold(Instant::now()) {
            let peer = Caller {
                uid,
                gid: u32::MAX,
                pid: 0,
            };
            let mut refused = Refused::from(Reason::Flood);
            tell_of(&mut refused, unrecorded);
            tracing::warn!(
                caller.uid = uid,
                detail = refused.detail,
                "flood of refused messages"
            );
            let trail = Trail::new(Door::Http, peer);
            if let Err(error) = self.refused(trail.record(), &refused).await {
                tracing::error!(%error, "flood not recorded");
                self.floods.leave(uid, unrecorded, Instant::now());
            }
        }
    }
}

/// Says in a refusal how many before it were counted only.
fn tell_of(refused: &mut Refused, unrecorded: u64) {
    if unrecorded > 0 {
        let before = format!("{unrecorded} before it came too fast to record");
        let detail = std::mem::take(&mut refused.detail);
        refused.detail = if detail.is_empty() {
            before
        } else {
            format!("{detail}; {before}")
        };
    }
}
