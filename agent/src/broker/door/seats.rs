//! How many connections there are, in all and of each uid.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The connections that there are.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    most_of_uid: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Never larger than `all`: a uid without a connection has no entry.
    by_uid: HashMap<u32, usize>,
}

/// One connection; gives its seat back when dropped.
#[must_use]
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
}

impl Seats {
    pub(super) fn new(most: usize, most_of_uid: usize) -> Self {
        Self {
            most,
            most_of_uid,
            taken: Mutex::default(),
        }
    }

    /// A seat for one more connection of `uid`, if there is one.
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_uid = taken.by_uid.get(&uid).copied().unwrap_or(0);
        if taken.all >= self.most || of_uid >= self.most_of_uid {
            return None;
        }
        taken.all = taken.all.saturating_add(1);
        taken.by_uid.insert(uid, of_uid.saturating_add(1));
        Some(Seat {
            seats: Arc::clone(self),
            uid,
        })
    }

    /// How many seats `uid` has, and how many are taken in all.
    pub(super) fn taken(&self, uid: u32) -> (usize, usize) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_uid = taken.by_uid.get(&uid).copied().unwrap_or(0);
        (of_uid, taken.all)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self
            .seats
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let left = taken
            .by_uid
            .get(&self.uid)
            .map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            taken.by_uid.remove(&self.uid);
        } else {
            taken.by_uid.insert(self.uid, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Seats;

    #[test]
    fn no_uid_takes_the_seats_of_another_and_a_seat_is_given_back() {
        let seats = Arc::new(Seats::new(3, 2));
        let first = seats.take(1).expect("a seat");
        let second = seats.take(1).expect("a seat");
        assert!(seats.take(1).is_none(), "a third of one uid");
        let other = seats.take(2).expect("a seat of another");
        assert!(seats.take(3).is_none(), "a fourth in all");
        drop((first, second));
        assert!(seats.take(3).is_some());
        drop(other);
        let taken = seats.taken.lock().expect("not poisoned");
        assert_eq!(taken.all, 0);
        assert!(taken.by_uid.is_empty(), "what is left: {taken:?}");
    }
}
