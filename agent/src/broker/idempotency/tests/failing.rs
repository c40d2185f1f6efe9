//! A write that fails once: who asked hears it, and the store works again with the next claim.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use redb::StorageBackend;

use super::{super::opening, *};

/// Bytes in memory that outlive the database, and the number of the write or sync that fails.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicI64>,
}

impl Disk {
    /// Of the writes and syncs from now on this one fails, counted from 1.
    fn fail(&self, number: i64) {
        self.fails.store(number, Ordering::Relaxed);
    }

    fn has_failed(&self) -> bool {
        self.fails.load(Ordering::Relaxed) <= 0
    }

    fn tick(&self) -> io::Result<()> {
        if self.fails.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn part(offset: u64, length: usize) -> std::ops::Range<usize> {
        let offset = usize::try_from(offset).expect("it is small");
        offset..offset + length
    }

    fn store(&self) -> Store {
        let disk = self.clone();
        let opening = Box::new(move || opening::database(disk.clone()));
        Store::of(opening, BOUNDS, boot()).expect("store")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().expect("no panic").len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().expect("no panic");
        let part = bytes.get(Self::part(offset, out.len()));
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).expect("it is small");
        self.bytes.lock().expect("no panic").resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.tick()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.tick()?;
        let mut bytes = self.bytes.lock().expect("no panic");
        let part = bytes.get_mut(Self::part(offset, data.len()));
        part.ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        Ok(())
    }
}

/// More than a commit of some rows writes and syncs.
const WRITES: i64 = 12;

#[tokio::test]
async fn a_write_that_fails_is_one_callers_matter() {
    for number in 1..WRITES {
        let disk = Disk::default();
        let store = disk.store();
        let running = mine(store.claim("alice", "runs", DIGEST, now()).await);
        disk.fail(number);
        let claim = store.claim("alice", "next", DIGEST, now()).await;
        if !disk.has_failed() {
            // A commit does not write so often.
            assert!(number > 1, "no write has failed");
            return;
        }
        // It may fail only after what counts was on the disk.
        if let Err(refused) = claim {
            assert_eq!(refused.reason, Reason::StoreUnavailable, "write {number}");
            assert!(store.has_failed());
        }
        let still = refused(store.claim("alice", "runs", DIGEST, now()).await);
        assert_eq!(still, Reason::IdempotencyRunning, "write {number}");
        assert!(!store.has_failed(), "it works again");
        let other = mine(store.claim("bob", "next", DIGEST, now()).await);
        running.done(reply("made")).await.expect("it is kept");
        other.forget().await.expect("it is free");
        let again = store.claim("alice", "runs", DIGEST, now()).await;
        assert!(matches!(again, Ok(Claim::Before(_))), "{again:?}");
    }
    panic!("a commit writes more often than the test knows");
}

#[tokio::test]
async fn an_end_that_is_not_written_is_unknown() {
    let disk = Disk::default();
    let store = disk.store();
    let running = mine(store.claim("alice", "runs", DIGEST, now()).await);
    disk.fail(1);
    running.done(reply("made")).await.expect_err("a full disk");
    let after = refused(store.claim("alice", "runs", DIGEST, now()).await);
    assert_eq!(after, Reason::OutcomeUnknown);
    let free = store.claim("alice", "free", DIGEST, now()).await;
    assert!(matches!(free, Ok(Claim::Mine(_))), "{free:?}");
}
