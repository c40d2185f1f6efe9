//! An agent that is killed while it writes: what was promised is there, and the chain is whole.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    super::{Against, Journal, query, verify},
    calls::{call, done},
};
use crate::audit::Filter;

/// Tells a copy of the test binary that it is the child, and where its journal lies.
const CHILD: &str = "STOCKADE_TEST_JOURNAL";
const RECORDS: u64 = 10_000;
const SEGMENT_BYTES: u64 = 1 << 18;

#[test]
fn nothing_that_was_promised_is_lost() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (mut promised, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let mut rounds = 0;
    let mut last = 0;
    while last < RECORDS {
        killed_after(&path, rounds, &mut promised, &mut ended);
        // As it was left, before anybody ends what is unfinished.
        verify(&path, &Against::default()).expect("whole after a kill");
        let (journal, opened) = Journal::open_sized(&path, SEGMENT_BYTES).expect("journal");
        assert!(opened.unfinished <= 8, "{opened:?}");
        drop(journal);
        let whole = verify(&path, &Against::default()).expect("whole");
        assert_eq!((whole.open, whole.signed), (0, whole.last));
        last = whole.last;
        rounds += 1;
        assert!(rounds < 200, "{last} records after {rounds} rounds");
    }
    let mut outcomes = [0_usize; 2];
    let filter = Filter {
        tool: Some("invoice".to_owned()),
        ..Filter::default()
    };
    let read = query(&path, &filter, |found| {
        let number = found.begun["sequence"].as_u64().expect("a number");
        promised.remove(&number);
        let unknown = found.outcome == "outcome_unknown";
        assert!(!(unknown && ended.remove(&number)), "{number} had ended");
        ended.remove(&number);
        outcomes[usize::from(unknown)] += 1;
        Ok(())
    });
    read.expect("readable").expect("taken");
    assert!(
        promised.is_empty() && ended.is_empty(),
        "{promised:?} {ended:?}"
    );
    assert!(outcomes[0] > 1000, "{outcomes:?}");
}

/// Kills a child that writes, some time after its first word; adds what it was promised.
fn killed_after(
    journal: &Path,
    round: u64,
    promised: &mut BTreeSet<u64>,
    ended: &mut BTreeSet<u64>,
) {
    let mut child = Command::new(env::current_exe().expect("this binary"))
        .args(["--exact", "audit::tests::killed::the_child"])
        .args(["--nocapture", "--quiet"])
        .env(CHILD, journal)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let stdout = child.stdout.take().expect("a pipe");
    // Read on until the end: a child that waits for its reader is not killed while it writes.
    let mut child = Some(child);
    let mut killer = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        let Some((what, number)) = line.split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else {
            continue;
        };
        match what {
            "began" => drop(promised.insert(number)),
            "ended" => drop(ended.insert(number)),
            _ => continue,
        }
        if let Some(mut child) = child.take() {
            killer = Some(std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(40 + round * 37 % 200));
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
}

/// What the killed child does; nothing when it is run as a test.
#[tokio::test]
async fn the_child() {
    let Ok(path) = env::var(CHILD) else {
        return;
    };
    let (journal, _) = Journal::open_sized(Path::new(&path), SEGMENT_BYTES).expect("journal");
    let journal = Arc::new(journal);
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let journal = Arc::clone(&journal);
        tasks.spawn(async move {
            for _ in 0..100_000 {
                let receipt = journal.call(&call("ann", "invoice"), task == 0).await;
                let receipt = receipt.expect("receipt");
                let number = receipt.sequence();
                println!("began {number}");
                journal
                    .called(receipt, &done(), task == 1)
                    .await
                    .expect("record");
                println!("ended {number}");
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
}
