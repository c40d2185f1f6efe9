//! A file system that does not answer.

use std::{path::Path, sync::mpsc};

use tokio::time::sleep;

use super::super::tests::{instance, policy};
use super::{Duration, LaunchError, Planned, TemplateCell, spawn_blocking};
use crate::sandbox::PlanError;

/// It holds up no task and one thread, however often somebody tries.
#[tokio::test]
async fn whoever_tries_again_waits_for_the_same_look() {
    let (instance, policy) = (instance(), policy(Path::new("/usr/share")));
    let cell = TemplateCell::default();
    let (answers, silence) = mpsc::channel::<Planned>();
    let hung = spawn_blocking(move || silence.recv().expect("an answer"));
    *cell.planning.lock().await = Some(hung);

    let first = cell.plan(&instance, &policy).await.map(drop);
    let error = first.expect_err("nothing answers");
    assert!(matches!(error, LaunchError::Unanswered { .. }), "{error:?}");
    assert!(error.to_string().contains("hint: "), "{error}");

    let answer = async {
        sleep(Duration::from_millis(100)).await;
        let answer = Err(PlanError::FilterTooLong(7));
        answers.send(answer).expect("somebody waits");
    };
    let (second, ()) = tokio::join!(cell.plan(&instance, &policy), answer);
    let error = second.map(drop).expect_err("the very answer");
    assert!(
        matches!(error, LaunchError::Plan(PlanError::FilterTooLong(7))),
        "{error:?}"
    );
    let third = cell.plan(&instance, &policy).await.map(drop);
    third.expect("a look of its own");
}

/// What ended while nobody waited tells of a host of long ago.
#[tokio::test]
async fn an_answer_that_nobody_waited_for_does_not_count() {
    let (instance, policy) = (instance(), policy(Path::new("/usr/share")));
    let cell = TemplateCell::default();
    let old = spawn_blocking(|| Err(PlanError::FilterTooLong(7)));
    while !old.is_finished() {
        sleep(Duration::from_millis(10)).await;
    }
    *cell.planning.lock().await = Some(old);
    let planned = cell.plan(&instance, &policy).await.map(drop);
    planned.expect("a look of its own");
}
