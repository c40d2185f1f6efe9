//! What is seen of a change, and by when.

use std::{fs, path::Path};

use tokio::time::{sleep, timeout};

use super::super::tests::{plan, policy};
use super::{Arc, Duration, FRESH, Instant, Standing};

/// Of the root of a policy with this path.
fn standing(listed: &Path) -> Standing {
    let policy = policy(listed);
    let plan = plan(&policy);
    Standing::new(Arc::new(plan), policy, Instant::now())
}

#[tokio::test]
async fn another_file_of_the_name_is_seen_and_is_seen_for_good() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let [listed, kept, new] = ["listed", "kept", "new"].map(|name| folder.path().join(name));
    fs::write(&listed, "old").expect("a file");
    fs::hard_link(&listed, &kept).expect("a second name");
    let standing = standing(&listed);
    assert!(standing.is_same().await);
    // The control: changed in place it is the same file.
    fs::write(&listed, "other").expect("the file");
    sleep(FRESH).await;
    assert!(standing.is_same().await);
    assert!(standing.is_same_at_once(), "it was looked at just now");

    fs::write(&new, "new").expect("a file");
    fs::rename(&new, &listed).expect("it is replaced");
    sleep(FRESH).await;
    assert!(!standing.is_same().await);
    assert!(!standing.is_same_at_once());
    fs::rename(&kept, &listed).expect("it is put back");
    sleep(FRESH).await;
    assert!(!standing.is_same().await, "its mount is gone all the same");
}

#[tokio::test]
async fn whoever_can_not_wait_sees_it_as_well() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let standing = standing(folder.path());
    sleep(FRESH).await;
    // On a busy host a look may take longer than somebody waits; then a later one knows.
    for _ in 0..500 {
        if standing.is_same_at_once() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("what has not changed is never the same");
}

#[tokio::test]
async fn a_look_that_does_not_end_holds_nobody_up() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let standing = standing(folder.path());
    let Standing(look) = &standing;
    let long_ago = Instant::now().checked_sub(2 * FRESH).expect("the host ran");
    {
        let mut seen = look.seen();
        seen.at = long_ago;
        seen.under_way = Some(long_ago);
    }
    let began = Instant::now();
    assert!(!standing.is_same_at_once());
    assert!(began.elapsed() < Duration::from_secs(1));
    let waited = timeout(Duration::from_millis(50), standing.is_same()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(look.seen().under_way, Some(long_ago), "a second thread");
    // It ends after all, and is too old: who asks now has another.
    look.carry_out();
    assert!(standing.is_same().await);
    assert!(look.seen().at > long_ago);
}
