//! The rows on the disk, in redb: a transaction is there as a whole or not at all, whenever the agent
//! is killed. Only this file knows their form.

use std::{cell::Cell, time::Duration};

use redb::{Database, Durability, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{
    Error, StoredReply,
    opening::Opening,
    thread::End,
    time::{Mark, Time},
};
use crate::{
    broker::reason::{Reason, Refused},
    clock::{Boot, BootTime},
};

/// How long a call is remembered, in the store's own time.
pub const KEPT: Duration = Duration::from_hours(25);
/// What all principals together may use.
pub const BOUNDS: Bounds = Bounds {
    entries: 200_000,
    bytes: 512 << 20,
};
/// Of this many parts a principal may use one: nobody fills the store alone.
const SHARES: u64 = 4;
/// Old calls that one claim clears away.
const CLEARED_MAX: usize = 16;
/// When to ask again about a call that runs.
const RUNNING_RETRY: Duration = Duration::from_secs(1);
/// How far what is kept of the store's time may be behind: so much is lost where the host restarts.
const TIME_BEHIND_SECONDS: u64 = 60;

pub(super) type Id = [u8; 32];
/// Principal, digest of the call, state, the store's time of the claim, bytes of the answer.
type Entry = (&'static Id, &'static Id, u8, u64, u64);

const ENTRIES: TableDefinition<'_, &Id, Entry> = TableDefinition::new("entries");
const REPLIES: TableDefinition<'_, &Id, &[u8]> = TableDefinition::new("replies");
/// Calls that run: what is found here when the store is opened was not ended.
const RUNNING: TableDefinition<'_, &Id, ()> = TableDefinition::new("running");
/// By time, so that the old ones are found.
const TIMES: TableDefinition<'_, (u64, &Id), ()> = TableDefinition::new("times");
/// Entries and bytes of each principal, and of all under [`ALL`].
const SUMS: TableDefinition<'_, &Id, (u64, u64)> = TableDefinition::new("sums");
/// One row, what is kept of the store's time: its seconds, those of the boot, and which boot.
const TIME: TableDefinition<'_, (), (u64, u64, u128)> = TableDefinition::new("time");
/// No principal: SHA-256 gives this for nothing that is known.
const ALL: Id = [0; 32];

const CLAIMED: u8 = 1;
const DONE: u8 = 2;
const UNKNOWN: u8 = 3;

/// How much is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Calls.
    pub entries: u64,
    /// Bytes of answers.
    pub bytes: u64,
}

/// The open file.
pub(super) struct Rows {
    opening: Opening,
    /// None after a failed write, until it was opened again.
    database: Option<Database>,
    bounds: Bounds,
    time: Time,
    /// The latest instant of a claim.
    seen: Cell<BootTime>,
    /// The store's time when it was kept last.
    kept: Cell<u64>,
}

/// One transaction.
pub(super) struct Writing<'r> {
    transaction: WriteTransaction,
    changed: bool,
    rows: &'r Rows,
}

/// What was found of a call that may be made or answered.
pub(super) enum Found {
    /// Nothing: it is claimed now.
    Nothing,
    /// Its answer.
    Reply(StoredReply),
}

struct Row {
    principal: Id,
    digest: Id,
    state: u8,
    time: u64,
    bytes: u64,
}

impl Rows {
    pub(super) fn open(opening: Opening, bounds: Bounds, boot: Boot) -> Result<Self, Error> {
        let database = opening()?;
        let time = time_of(&database, boot)?;
        let rows = Self {
            opening,
            database: Some(database),
            bounds,
            seen: Cell::new(boot.now),
            kept: Cell::new(time.at(boot.now)),
            time,
        };
        rows.close_running(|_| false)?;
        Ok(rows)
    }

    /// Lets go of a database that a write has failed in.
    pub(super) fn fail(&mut self) {
        self.database = None;
    }

    /// Opens it again where it was let go of; whether it had been. Calls that run `still` stay claimed; of
    /// the others nobody knows what came.
    pub(super) fn reopen(&mut self, still: impl Fn(&Id) -> bool) -> Result<bool, Error> {
        if self.database.is_some() {
            return Ok(false);
        }
        self.database = Some((self.opening)()?);
        let closed = self.close_running(still);
        if closed.is_err() {
            self.database = None;
        }
        closed.map(|()| true)
    }

    pub(super) fn begin(&self) -> Result<Writing<'_>, Error> {
        let database = self.database.as_ref().ok_or(Error::Closed)?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(Writing {
            transaction,
            changed: false,
            rows: self,
        })
    }

    /// What was claimed and does not run any more is unknown.
    fn close_running(&self, still: impl Fn(&Id) -> bool) -> Result<(), Error> {
        let mut writing = self.begin()?;
        let running: Vec<Id> = {
            let table = writing.transaction.open_table(RUNNING)?;
            let ids = table.iter()?;
            ids.map(|row| row.map(|(id, _)| *id.value()))
                .collect::<Result<_, _>>()?
        };
        for id in running.iter().filter(|id| !still(id)) {
            writing.end(id, End::Unknown)?.ok();
        }
        // The first time also makes the tables.
        writing.keep_time()?;
        writing.changed = true;
        writing.commit()
    }
}

fn time_of(database: &Database, boot: Boot) -> Result<Time, Error> {
    let reading = database.begin_write()?;
    let kept = reading.open_table(TIME)?.get(())?.map(|row| row.value());
    let times = reading.open_table(TIMES)?;
    let latest = times.last()?.map_or(0, |(key, _)| key.value().0);
    drop(times);
    reading.abort()?;
    Ok(Time::go_on(kept.map(Mark::from), latest, boot))
}

impl Writing<'_> {
    /// Claims a call, or tells why not.
    pub(super) fn claim(
        &mut self,
        id: &Id,
        principal: &Id,
        digest: &Id,
        now: BootTime,
    ) -> Result<Result<Found, Refused>, Error> {
        self.rows.seen.set(self.rows.seen.get().max(now));
        let now = self.rows.time.at(now);
        self.clear(now)?;
        if let Some(row) = self.row(id)? {
            return self.found(id, &row, digest);
        }
        let room = self.room(principal, 1, 0)?;
        if !room {
            return Ok(Err(Reason::IdempotencyFull.into()));
        }
        self.put(
            id,
            &Row {
                principal: *principal,
                digest: *digest,
                state: CLAIMED,
                time: now,
                bytes: 0,
            },
        )?;
        self.add(principal, 1, 0)?;
        self.transaction.open_table(RUNNING)?.insert(id, ())?;
        self.transaction.open_table(TIMES)?.insert((now, id), ())?;
        Ok(Ok(Found::Nothing))
    }

    /// Ends a claim. What was no claim any more is left as it is.
    pub(super) fn end(&mut self, id: &Id, end: End) -> Result<Result<(), Error>, Error> {
        let Some(mut row) = self.row(id)?.filter(|row| row.state == CLAIMED) else {
            return Ok(Err(Error::Closed));
        };
        self.transaction.open_table(RUNNING)?.remove(id)?;
        let mut result = Ok(());
        match end {
            End::Forget => {
                self.remove(id, &row)?;
                return Ok(Ok(()));
            }
            End::Unknown => row.state = UNKNOWN,
            End::Done(reply) => {
                let bytes = reply.len() as u64;
                if self.room(&row.principal, 0, bytes)? {
                    self.transaction
                        .open_table(REPLIES)?
                        .insert(id, reply.as_slice())?;
                    self.add(&row.principal, 0, bytes)?;
                    row.state = DONE;
                    row.bytes = bytes;
                } else {
                    row.state = UNKNOWN;
                    result = Err(Error::Room(bytes));
                }
            }
        }
        self.put(id, &row)?;
        Ok(result)
    }

    /// Puts it onto the disk.
    pub(super) fn commit(self) -> Result<(), Error> {
        if self.changed {
            let now = self.rows.time.at(self.rows.seen.get());
            let behind = now.saturating_sub(self.rows.kept.get());
            if behind >= TIME_BEHIND_SECONDS {
                self.keep_time()?;
            }
            self.transaction.commit()?;
        } else {
            // Nothing to wait for the disk for.
            self.transaction.abort()?;
        }
        Ok(())
    }

    fn keep_time(&self) -> Result<(), Error> {
        let mark = self.rows.time.mark(self.rows.seen.get());
        self.transaction.open_table(TIME)?.insert((), mark.row())?;
        self.rows.kept.set(mark.seconds);
        Ok(())
    }

    fn found(&self, id: &Id, row: &Row, digest: &Id) -> Result<Result<Found, Refused>, Error> {
        if row.digest != *digest {
            return Ok(Err(Reason::IdempotencyConflict.into()));
        }
        if row.state == CLAIMED {
            return Ok(Err(Refused {
                retry_after: Some(RUNNING_RETRY),
                ..Reason::IdempotencyRunning.into()
            }));
        }
        let replies = self.transaction.open_table(REPLIES)?;
        let reply = replies.get(id)?.filter(|_| row.state == DONE);
        let Some(reply) = reply else {
            return Ok(Err(Reason::OutcomeUnknown.into()));
        };
        // One that can not be read is one caller's matter.
        match serde_json::from_slice(reply.value()) {
            Ok(reply) => Ok(Ok(Found::Reply(reply))),
            Err(error) => {
                tracing::error!(%error, "an answer of the idempotency store can not be read");
                Ok(Err(Reason::OutcomeUnknown.into()))
            }
        }
    }

    /// Removes what is older than it has to be; what runs stays.
    fn clear(&mut self, now: u64) -> Result<(), Error> {
        let Some(before) = now.checked_sub(KEPT.as_secs()) else {
            return Ok(());
        };
        let old: Vec<(u64, Id)> = {
            let times = self.transaction.open_table(TIMES)?;
            let old = times.range(..(before, &ALL))?.take(CLEARED_MAX);
            let ids = old.map(|row| {
                row.map(|(key, _)| {
                    let (time, id) = key.value();
                    (time, *id)
                })
            });
            ids.collect::<Result<_, _>>()?
        };
        for (time, id) in old {
            match self.row(&id)? {
                Some(mut row) if row.state == CLAIMED => {
                    let mut times = self.transaction.open_table(TIMES)?;
                    times.remove((time, &id))?;
                    times.insert((now, &id), ())?;
                    drop(times);
                    row.time = now;
                    self.put(&id, &row)?;
                }
                Some(row) => self.remove(&id, &row)?,
                None => {
                    self.transaction.open_table(TIMES)?.remove((time, &id))?;
                }
            }
        }
        Ok(())
    }

    fn row(&self, id: &Id) -> Result<Option<Row>, Error> {
        let entries = self.transaction.open_table(ENTRIES)?;
        let row = entries.get(id)?.map(|row| {
            let (principal, digest, state, time, bytes) = row.value();
            Row {
                principal: *principal,
                digest: *digest,
                state,
                time,
                bytes,
            }
        });
        Ok(row)
    }

    fn put(&mut self, id: &Id, row: &Row) -> Result<(), Error> {
        self.changed = true;
        let mut entries = self.transaction.open_table(ENTRIES)?;
        let Row {
            principal,
            digest,
            state,
            time,
            bytes,
        } = row;
        entries.insert(id, (principal, digest, *state, *time, *bytes))?;
        Ok(())
    }

    fn remove(&mut self, id: &Id, row: &Row) -> Result<(), Error> {
        self.changed = true;
        self.transaction.open_table(ENTRIES)?.remove(id)?;
        self.transaction.open_table(REPLIES)?.remove(id)?;
        self.transaction.open_table(TIMES)?.remove((row.time, id))?;
        let mut sums = self.transaction.open_table(SUMS)?;
        for whose in [&row.principal, &ALL] {
            let (entries, bytes) = sums.get(whose)?.map_or((0, 0), |sum| sum.value());
            let rest = (entries.saturating_sub(1), bytes.saturating_sub(row.bytes));
            if rest == (0, 0) {
                sums.remove(whose)?;
            } else {
                sums.insert(whose, rest)?;
            }
        }
        Ok(())
    }

    /// Whether the store has room for more, and the principal may use it.
    fn room(&self, principal: &Id, entries: u64, bytes: u64) -> Result<bool, Error> {
        let sums = self.transaction.open_table(SUMS)?;
        let of = |whose: &Id| -> Result<(u64, u64), Error> {
            Ok(sums.get(whose)?.map_or((0, 0), |sum| sum.value()))
        };
        let (own, all) = (of(principal)?, of(&ALL)?);
        let fits = |(used, used_bytes): (u64, u64), share: u64| {
            used.saturating_add(entries) <= self.rows.bounds.entries / share
                && used_bytes.saturating_add(bytes) <= self.rows.bounds.bytes / share
        };
        Ok(fits(own, SHARES) && fits(all, 1))
    }

    fn add(&mut self, principal: &Id, entries: u64, bytes: u64) -> Result<(), Error> {
        let mut sums = self.transaction.open_table(SUMS)?;
        for whose in [principal, &ALL] {
            let (used, used_bytes) = sums.get(whose)?.map_or((0, 0), |sum| sum.value());
            let sum = (
                used.saturating_add(entries),
                used_bytes.saturating_add(bytes),
            );
            sums.insert(whose, sum)?;
        }
        Ok(())
    }
}
