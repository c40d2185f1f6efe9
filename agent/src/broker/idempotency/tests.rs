//! Races, crashes and full stores: a call with a key runs once.

mod failing;

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use super::{BOUNDS, Bounds, Claim, Claimed, KEPT, Store, StoredReply};
use crate::{
    broker::reason::{Reason, Refused},
    clock::{Boot, BootTime},
};

const DIGEST: [u8; 32] = [7; 32];
const OTHER: [u8; 32] = [8; 32];
/// Tells a copy of the test binary that it is the child, and where its store lies.
const CHILD: &str = "STOCKADE_TEST_IDEMPOTENCY";

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("calls.redb")
    }

    /// Another test may be starting a process: until that is executed, it holds the lock of a store
    /// that was closed here.
    fn open(&self) -> Store {
        for _ in 0..200 {
            if let Ok(store) = Store::open(&self.path()) {
                return store;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Store::open(&self.path()).expect("store")
    }
}

fn reply(text: &str) -> StoredReply {
    StoredReply {
        content: vec![json!({"type": "text", "text": text})],
        structured: Some(json!({"id": 7})),
        is_error: false,
    }
}

fn mine(claim: Result<Claim, Refused>) -> Claimed {
    match claim {
        Ok(Claim::Mine(claimed)) => claimed,
        other => panic!("not mine: {other:?}"),
    }
}

fn refused(claim: Result<Claim, Refused>) -> Reason {
    claim.expect_err("a refusal").reason
}

fn now() -> BootTime {
    BootTime::now()
}

fn boot() -> Boot {
    Boot::current().expect("a boot")
}

#[tokio::test]
async fn an_answer_is_given_again_also_after_a_restart() {
    let scene = Scene::new();
    let store = scene.open();
    let claimed = mine(store.claim("ann", "key", DIGEST, now()).await);
    assert_eq!(
        refused(store.claim("ann", "key", DIGEST, now()).await),
        Reason::IdempotencyRunning
    );
    claimed.done(reply("one")).await.expect("kept");
    let mut store = store;
    for _ in 0..2 {
        let before = store.claim("ann", "key", DIGEST, now()).await;
        assert!(matches!(before, Ok(Claim::Before(kept)) if kept == reply("one")));
        assert_eq!(
            refused(store.claim("ann", "key", OTHER, now()).await),
            Reason::IdempotencyConflict
        );
        drop(store);
        store = scene.open();
    }
    // One key, two principals: two calls. Nor do their borders run into each other.
    let bob = mine(store.claim("bob", "key", OTHER, now()).await);
    let border = mine(store.claim("an", "nkey", OTHER, now()).await);
    bob.forget().await.expect("free");
    border.forget().await.expect("free");
}

#[tokio::test]
async fn what_did_not_run_is_free_and_what_may_have_run_is_not() {
    let scene = Scene::new();
    let store = scene.open();
    let claimed = mine(store.claim("ann", "a", DIGEST, now()).await);
    claimed.forget().await.expect("free");
    let claimed = mine(store.claim("ann", "a", OTHER, now()).await);
    claimed.unknown().await.expect("kept");
    // Dropped, as when its task is cancelled.
    drop(mine(store.claim("ann", "b", DIGEST, now()).await));
    for (key, digest) in [("a", OTHER), ("b", DIGEST)] {
        assert_eq!(
            refused(store.claim("ann", key, digest, now()).await),
            Reason::OutcomeUnknown
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_claims_one_wins() {
    let scene = Scene::new();
    let store = Arc::new(scene.open());
    let mut claims = JoinSet::new();
    for _ in 0..1000 {
        let store = Arc::clone(&store);
        claims.spawn(async move { store.claim("ann", "key", DIGEST, now()).await });
    }
    let claims = claims.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = claims.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 999));
    for claim in lost {
        assert_eq!(refused(claim), Reason::IdempotencyRunning);
    }
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_any_more_is_free_or_unknown_but_not_running() {
    let scene = Scene::new();
    let store = scene.open();
    for delay in [0, 1, 3, 5, 8] {
        let key = format!("key-{delay}");
        let claim = store.claim("ann", &key, DIGEST, now());
        let given_up = tokio::time::timeout(Duration::from_millis(delay), claim).await;
        drop(given_up);
        // Until the store has heard that nobody waits.
        let again = loop {
            match store.claim("ann", &key, DIGEST, now()).await {
                Err(refused) if refused.reason == Reason::IdempotencyRunning => {}
                other => break other,
            }
        };
        match again {
            Ok(Claim::Mine(claimed)) => claimed.forget().await.expect("free"),
            other => assert_eq!(refused(other), Reason::OutcomeUnknown),
        }
    }
}

#[tokio::test]
async fn keys_have_a_shape() {
    let scene = Scene::new();
    let store = scene.open();
    for key in ["", " ", "a b", "ä", "a\n", &"x".repeat(256)] {
        assert_eq!(
            refused(store.claim("ann", key, DIGEST, now()).await),
            Reason::IdempotencyMalformed
        );
    }
    let long = mine(store.claim("ann", &"x".repeat(255), DIGEST, now()).await);
    long.forget().await.expect("free");
}

#[tokio::test]
async fn a_day_is_remembered_and_no_week() {
    let scene = Scene::new();
    let store = scene.open();
    let then = now();
    let claimed = mine(store.claim("ann", "old", DIGEST, then).await);
    claimed.done(reply("old")).await.expect("kept");
    let running = mine(store.claim("ann", "runs", DIGEST, then).await);
    let later = then + KEPT.saturating_sub(Duration::from_secs(1));
    let before = store.claim("ann", "old", DIGEST, later).await;
    assert!(matches!(before, Ok(Claim::Before(_))));
    let later = then + (KEPT + Duration::from_secs(2));
    let again = mine(store.claim("ann", "old", OTHER, later).await);
    again.forget().await.expect("free");
    // What runs is not forgotten, however long.
    assert_eq!(
        refused(store.claim("ann", "runs", DIGEST, later + KEPT).await),
        Reason::IdempotencyRunning
    );
    running.done(reply("late")).await.expect("kept");
}

/// A wall clock that jumps is not even looked at; the kernel's begins anew with each boot, and what the
/// host was off for counts for nothing.
#[tokio::test]
async fn a_day_is_one_in_which_the_host_ran() {
    let scene = Scene::new();
    let hours = |hours| BootTime(0) + Duration::from_hours(hours);
    let open = |id, now| {
        let store = Store::open_bounded(&scene.path(), BOUNDS, Boot { id, now });
        store.expect("store")
    };
    let store = open(1, hours(90));
    let claimed = mine(store.claim("ann", "key", DIGEST, hours(90)).await);
    claimed.done(reply("kept")).await.expect("kept");
    // The agent was away for a while of the same boot.
    drop(store);
    let store = open(1, hours(100));
    let before = store.claim("ann", "key", DIGEST, hours(100)).await;
    assert!(matches!(before, Ok(Claim::Before(_))));
    // Something changes, so that the time is kept: 10 hours of the key's 25 are over.
    let other = mine(store.claim("ann", "other", DIGEST, hours(100)).await);
    other.forget().await.expect("free");
    drop(store);
    let store = open(2, hours(1));
    let before = store.claim("ann", "key", DIGEST, hours(15)).await;
    assert!(matches!(before, Ok(Claim::Before(_))), "24 hours");
    let again = mine(store.claim("ann", "key", OTHER, hours(17)).await);
    again.forget().await.expect("free");
}

#[tokio::test]
async fn one_principal_does_not_fill_the_store() {
    let scene = Scene::new();
    let bounds = Bounds {
        entries: 8,
        bytes: 4000,
    };
    let store = Store::open_bounded(&scene.path(), bounds, boot()).expect("store");
    let first = mine(store.claim("ann", "a", DIGEST, now()).await);
    let second = mine(store.claim("ann", "b", DIGEST, now()).await);
    assert_eq!(
        refused(store.claim("ann", "c", DIGEST, now()).await),
        Reason::IdempotencyFull
    );
    let other = mine(store.claim("bob", "c", DIGEST, now()).await);
    other.done(reply("one")).await.expect("kept");
    // No room for the answer: the call was made and is not made again.
    let large = reply(&"x".repeat(1000));
    assert!(first.done(large).await.is_err());
    assert_eq!(
        refused(store.claim("ann", "a", DIGEST, now()).await),
        Reason::OutcomeUnknown
    );
    second.forget().await.expect("free");
    let third = mine(store.claim("ann", "c", DIGEST, now()).await);
    third.forget().await.expect("free");
    assert!(BOUNDS.entries > bounds.entries);
}

#[tokio::test]
async fn a_killed_agent_leaves_no_claim_and_loses_no_answer() {
    let scene = Scene::new();
    for round in 0..6 {
        let said = killed_after(&scene.path(), round);
        let store = scene.open();
        let (mut done, mut unknown) = (0, 0);
        for line in said {
            let (what, key) = line.split_once(' ').expect("two words");
            let found = store.claim("ann", key, DIGEST, now()).await;
            match (what, found) {
                ("done", Ok(Claim::Before(kept))) => {
                    assert_eq!(kept, reply(key));
                    done += 1;
                }
                // Its end may be on the disk, only nobody was told.
                ("claimed", Ok(Claim::Before(kept))) => assert_eq!(kept, reply(key)),
                ("claimed", Err(refused)) => {
                    assert_eq!(refused.reason, Reason::OutcomeUnknown);
                    unknown += 1;
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(done > 0 && unknown <= 4, "{done} done, {unknown} unknown");
    }
}

/// Kills a child that claims and ends, some time after its first answer; the last thing that it said
/// of each key.
fn killed_after(store: &Path, round: u32) -> Vec<String> {
    let mut child = Command::new(env::current_exe().expect("this binary"))
        .args(["--exact", "broker::idempotency::tests::the_child"])
        .args(["--nocapture", "--quiet"])
        .env(CHILD, store)
        .env("ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let stdout = child.stdout.take().expect("a pipe");
    let mut said = std::collections::BTreeMap::new();
    // Read on until the end: a child that waits for its reader is not killed while it writes.
    let mut child = Some(child);
    let mut killer = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        let Some((what, key)) = line.split_once(' ') else {
            continue;
        };
        if !matches!(what, "claimed" | "done") {
            continue;
        }
        said.insert(key.to_owned(), what.to_owned());
        if let Some(mut child) = child.take_if(|_| what == "done") {
            killer = Some(std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(u64::from(round) * 7));
                child.kill().expect("killed");
                child.wait().expect("gone")
            }));
        }
    }
    let status = killer.expect("a first word").join().expect("killed");
    assert!(
        status.code().is_none(),
        "the child ended by itself: {status}"
    );
    said.into_iter()
        .map(|(key, what)| format!("{what} {key}"))
        .collect()
}

/// What the killed child does; nothing when it is run as a test.
#[tokio::test]
async fn the_child() {
    let Ok(path) = env::var(CHILD) else {
        return;
    };
    let round = env::var("ROUND").expect("a round");
    let store = Arc::new(Store::open(Path::new(&path)).expect("store"));
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (store, round) = (Arc::clone(&store), round.clone());
        tasks.spawn(async move {
            for number in 0..100_000 {
                let key = format!("{round}-{task}-{number}");
                let claimed = mine(store.claim("ann", &key, DIGEST, now()).await);
                println!("claimed {key}");
                claimed.done(reply(&key)).await.expect("kept");
                println!("done {key}");
            }
        });
    }
    tasks.join_all().await;
}
