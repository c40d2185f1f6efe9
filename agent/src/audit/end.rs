//! The end of the journal, as its writers leave it to each other and to the thread that syncs it.

use std::{
    collections::BTreeSet,
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use super::chain::Head;

/// How soon a record of a session is on the disk and under a checkpoint. Launches are not waited for,
/// and a power loss ends the sessions as well.
const SESSION_DELAY: Duration = Duration::from_secs(1);
/// How soon a record of a call is; with the time that a disk takes, within 10 ms.
const CALL_DELAY: Duration = Duration::from_millis(5);

/// When a record is to be on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Urgency {
    /// Some time later.
    Session,
    /// Soon.
    Call,
    /// Somebody waits for it.
    Durable,
}

/// The end of the journal.
#[derive(Debug)]
pub(super) struct End {
    pub(super) file: Arc<File>,
    pub(super) head: Head,
    /// Number of the first record of the file.
    pub(super) first: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// What has begun and not ended.
    pub(super) open: BTreeSet<u64>,
    /// Bytes after the last record that belong to none; what is to be written before they are ended.
    pub(super) fragment: Option<Tail>,
    /// Closed files; whether their names are on the disk is not known.
    pub(super) closed: Vec<Arc<File>>,
    /// When the thread has something to do.
    pub(super) due: Option<Instant>,
    /// When the oldest record was written that the next sync will put onto the disk.
    pub(super) waiting_since: Option<Instant>,
    /// The same of the sync that runs.
    pub(super) syncing_since: Option<Instant>,
    /// Whether one of those that wait is more than a session's.
    pub(super) hurried: bool,
    pub(super) disk: Disk,
    /// The checkpoint can not be written.
    pub(super) unsigned: bool,
    pub(super) stop: bool,
}

/// How the disk takes records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disk {
    /// It took the last one.
    Well,
    /// It did not take the last one; it may take the next.
    Failing,
    /// What it holds is not known: nothing more is written.
    Lost,
}

/// Bytes that are no record.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) bytes: Vec<u8>,
    /// Whether an end of line follows.
    pub(super) ended: bool,
}

/// What is known of a journal that was opened.
pub(super) struct Start {
    pub(super) file: File,
    pub(super) head: Head,
    pub(super) first: u64,
    pub(super) size: u64,
    pub(super) open: BTreeSet<u64>,
    pub(super) fragment: Option<Tail>,
}

impl From<Start> for End {
    fn from(start: Start) -> Self {
        let Start {
            file,
            head,
            first,
            size,
            open,
            fragment,
        } = start;
        Self {
            file: Arc::new(file),
            head,
            first,
            size,
            open,
            fragment,
            closed: Vec::new(),
            due: None,
            waiting_since: None,
            syncing_since: None,
            hurried: false,
            disk: Disk::Well,
            unsigned: false,
            stop: false,
        }
    }
}

impl End {
    /// Notes when the last record is to be on the disk; whether the thread has to be told.
    pub(super) fn hurry(&mut self, urgency: Urgency) -> bool {
        let now = Instant::now();
        self.waiting_since.get_or_insert(now);
        self.hurried |= urgency != Urgency::Session;
        let due = match urgency {
            Urgency::Session => now.checked_add(SESSION_DELAY),
            Urgency::Call => now.checked_add(CALL_DELAY),
            Urgency::Durable => Some(now),
        };
        let earlier = self.due.is_none() || due < self.due;
        if earlier {
            self.due = due;
        }
        earlier
    }

    /// The next look, shortly after one that found work: more of it will come, and need not wake the thread.
    pub(super) fn look_again(&mut self) {
        if self.due.is_none() {
            self.due = Instant::now().checked_add(CALL_DELAY);
        }
    }

    /// Whether such a look was for nothing, as what waits are records of sessions that have time. Sees to
    /// it that they are not forgotten.
    pub(super) fn has_time(&mut self) -> bool {
        let since = self.waiting_since.filter(|_| !self.hurried);
        let due = since.and_then(|since| since.checked_add(SESSION_DELAY));
        let due = due.filter(|due| *due > Instant::now());
        if due.is_some() {
            self.due = self.due.min(due).or(due);
        }
        due.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> End {
        End::from(Start {
            file: tempfile::tempfile().expect("a file"),
            head: Head::START,
            first: 1,
            size: 0,
            open: BTreeSet::new(),
            fragment: None,
        })
    }

    #[test]
    fn the_thread_is_told_of_what_comes_before_its_next_look() {
        let mut end = end();
        let told = [
            Urgency::Session,
            Urgency::Session,
            Urgency::Call,
            Urgency::Call,
            Urgency::Session,
            Urgency::Durable,
            Urgency::Durable,
        ];
        let told = told.map(|urgency| end.hurry(urgency));
        assert_eq!(told, [true, false, true, false, false, true, false]);
        assert!(end.due <= Some(Instant::now()));
    }

    #[test]
    fn a_look_finds_what_can_not_wait_and_leaves_what_can() {
        let mut end = end();
        end.look_again();
        assert!(!end.has_time(), "nothing waits");
        let next = end.due.take();
        assert!(next <= Instant::now().checked_add(CALL_DELAY));
        end.look_again();
        assert!(!end.hurry(Urgency::Session), "there will be a look");
        end.due = None;
        assert!(end.has_time());
        let due = end.due.expect("it is not forgotten");
        assert!(due > Instant::now() + SESSION_DELAY / 2);
        end.hurry(Urgency::Call);
        assert!(!end.has_time());
        assert!(end.due < Some(due));
    }
}
