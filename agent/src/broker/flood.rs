//! Callers that nobody knows, and there may be many: how often a user may be refused before its
//! refusals are counted instead of recorded one by one, and have to be waited for.
//!
//! Only what shows no good credentials is counted here. A caller with a good token and proof never
//! waits, whoever else has its user id.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Refusals of one user at once that are recorded one by one; a caller that lags behind a new nonce on
/// each of many connections has done nothing else.
pub(super) const BURST: u32 = 512;
/// And after those, each in this time.
pub(super) const SHARE: Duration = Duration::from_millis(50);
/// The share of an answer that anybody gets, such as a handshake: it costs less, and needs no record.
const FREE_SHARE: Duration = Duration::from_millis(5);
/// What a refusal has to be waited for where a user has had more. With the connections that a user may
/// have, it bounds what checking its tokens takes.
pub(super) const PENALTY: Duration = Duration::from_secs(1);
/// Users that are looked at; beyond them all share one account.
const USERS_MAX: usize = 1_024;
/// The account of those: no process has this id (`chown(2)`: -1 stands for no user).
const ALL_OTHERS: u32 = u32::MAX;

/// Refusals by user.
#[derive(Debug, Default)]
pub(super) struct Floods {
    users: Mutex<HashMap<u32, User>>,
}

/// One user's refusals.
#[derive(Clone, Copy, Debug)]
struct User {
    /// When all of them have had their share of time.
    paid: Instant,
    /// How many were not recorded since the last record.
    unrecorded: u64,
    /// Whether there were too many, and it has not been quiet for long enough since.
    floods: bool,
}

/// What becomes of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noted {
    /// It gets a record, which says too how many before it got none.
    Recorded {
        /// So many.
        unrecorded: u64,
    },
    /// It is counted; a later record tells.
    Counted,
}

impl Floods {
    /// Notes a refusal.
    pub(super) fn note(&self, uid: u32, now: Instant) -> Noted {
        let mut users = self.lock();
        let user = account(&mut users, uid, now);
        if user.charge(now, SHARE) {
            let unrecorded = std::mem::take(&mut user.unrecorded);
            Noted::Recorded { unrecorded }
        } else {
            user.unrecorded = user.unrecorded.saturating_add(1);
            Noted::Counted
        }
    }

    /// Notes an answer that asks for no credentials.
    pub(super) fn note_free(&self, uid: u32, now: Instant) {
        let mut users = self.lock();
        account(&mut users, uid, now).charge(now, FREE_SHARE);
    }

    /// So many refusals were to be told of and were not: the next record tells.
    pub(super) fn leave(&self, uid: u32, unrecorded: u64, now: Instant) {
        let mut users = self.lock();
        let user = account(&mut users, uid, now);
        user.unrecorded = user.unrecorded.saturating_add(unrecorded);
    }

    /// What a refusal of this user has to be waited for.
    pub(super) fn penalty(&self, uid: u32, now: Instant) -> Option<Duration> {
        let users = self.lock();
        let user = users.get(&uid).or_else(|| users.get(&ALL_OTHERS))?;
        user.floods_still(now).then_some(PENALTY)
    }

    /// Users whose last refusals were counted only, with how many; then forgets who has paid.
    pub(super) fn untold(&self, now: Instant) -> Vec<(u32, u64)> {
        let mut users = self.lock();
        let told = users
            .iter_mut()
            .map(|(uid, user)| (*uid, std::mem::take(&mut user.unrecorded)))
            .filter(|(_, unrecorded)| *unrecorded > 0)
            .collect();
        users.retain(|_, user| user.paid > now);
        told
    }

    /// Users that are looked at.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, User>> {
        // Every change is one entry.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of a user.
fn account(users: &mut HashMap<u32, User>, uid: u32, now: Instant) -> &mut User {
    let known = users.len() < USERS_MAX || users.contains_key(&uid);
    let uid = if known { uid } else { ALL_OTHERS };
    users.entry(uid).or_insert(User {
        paid: now,
        unrecorded: 0,
        floods: false,
    })
}

impl User {
    /// Takes a share, if there is one.
    fn charge(&mut self, now: Instant, share: Duration) -> bool {
        let most = SHARE.saturating_mul(BURST.saturating_sub(1));
        let within = self.owed(now) <= most;
        if within {
            let paid = self.paid.max(now);
            self.paid = paid.checked_add(share).unwrap_or(paid);
        }
        self.floods = self.floods_still(now) || self.owed(now) > most;
        within
    }

    /// Once there were too many, until half of what it may have at once is paid for.
    fn floods_still(&self, now: Instant) -> bool {
        self.floods && self.owed(now) > SHARE.saturating_mul(BURST / 2)
    }

    /// The time until all of its refusals had theirs (the generic cell rate algorithm).
    fn owed(&self, now: Instant) -> Duration {
        self.paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ALL_OTHERS, BURST, Floods, Noted, PENALTY, SHARE, USERS_MAX};

    #[test]
    fn what_comes_too_fast_is_counted_waits_and_is_told_of() {
        let (floods, now) = (Floods::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(floods.penalty(1, now), None);
            assert_eq!(floods.note(1, now), Noted::Recorded { unrecorded: 0 });
        }
        for _ in 0..10 {
            assert_eq!(floods.note(1, now), Noted::Counted);
        }
        assert_eq!(floods.penalty(1, now), Some(PENALTY));
        assert_eq!(floods.penalty(2, now), None, "another user");
        assert_eq!(floods.note(2, now), Noted::Recorded { unrecorded: 0 });
        // A share of time later one more is recorded, with what was not.
        let later = now + SHARE;
        assert_eq!(floods.note(1, later), Noted::Recorded { unrecorded: 10 });
        assert_eq!(floods.note(1, later), Noted::Counted);
        assert_eq!(floods.untold(later), [(1, 1)]);
        assert_eq!(floods.untold(later), [], "told once");
        let almost = later + SHARE * (BURST / 2 - 1);
        assert_eq!(floods.penalty(1, almost), Some(PENALTY));
        assert_eq!(floods.penalty(1, almost + SHARE), None);
        // Once all have had their time, nothing is left of it.
        assert_eq!(floods.untold(later + SHARE * BURST), []);
        assert_eq!(floods.len(), 0);
    }

    #[test]
    fn what_anybody_gets_counts_less_and_is_no_refusal() {
        let (floods, now) = (Floods::default(), Instant::now());
        for _ in 0..BURST {
            floods.note_free(1, now);
        }
        assert_eq!(floods.penalty(1, now), None);
        for _ in 0..BURST * 10 {
            floods.note_free(1, now);
        }
        assert_eq!(floods.penalty(1, now), Some(PENALTY));
        assert_eq!(floods.untold(now), []);
    }

    #[test]
    fn the_table_of_users_is_bounded_and_nobody_escapes_it() {
        let (floods, now) = (Floods::default(), Instant::now());
        let many = u32::try_from(USERS_MAX).expect("a small number");
        for uid in 0..many {
            floods.note(uid, now);
        }
        for uid in many..many + BURST + 5 {
            floods.note(uid, now);
        }
        assert_eq!(floods.len(), USERS_MAX + 1);
        assert_eq!(floods.penalty(many + 1, now), Some(PENALTY));
        assert_eq!(floods.untold(now), [(ALL_OTHERS, 5)]);
        floods.untold(now + Duration::from_mins(1));
        assert_eq!(floods.len(), 0);
    }
}
