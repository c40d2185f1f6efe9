//! New keys come in and old ones go while tokens are verified.

use std::time::Duration;

use super::{QUICK, World};
use crate::{
    broker::{jose::KeyPair, reason::Reason},
    config::Fetching,
};

#[tokio::test]
async fn a_new_key_is_fetched_at_once_and_a_removed_one_refused() {
    let world = World::honest().await;
    let old = world.token("one", &world.pair);
    assert!(world.verify(&old).await.is_ok());
    tokio::time::sleep(QUICK.pause).await;
    let next = KeyPair::ed25519().expect("a key");
    world.publish(&[("one", &world.pair), ("two", &next)]);
    let new = world.token("two", &next);
    assert!(world.verify(&new).await.is_ok(), "{:?}", world.condition());
    assert!(world.verify(&old).await.is_ok(), "both are there");
    tokio::time::sleep(QUICK.pause).await;
    let third = KeyPair::p256().expect("a key");
    world.publish(&[("three", &third)]);
    assert!(world.verify(&world.token("three", &third)).await.is_ok());
    // Its signature was checked before: that does not count any more.
    assert_eq!(world.reason(&old).await, Some(Reason::TokenKey));
    assert_eq!(world.reason(&new).await, Some(Reason::TokenKey));
}

#[tokio::test]
async fn a_key_id_keeps_no_key_alive() {
    let settings = Fetching {
        refresh_max: Duration::from_millis(400),
        ..QUICK
    };
    let world = World::discovering("", settings).await;
    world.publish(&[("one", &world.pair)]);
    world.say_where();
    let world = world.start();
    let old = world.token("one", &world.pair);
    assert!(world.verify(&old).await.is_ok());
    // Another key under the same id.
    let next = KeyPair::p256().expect("a key");
    world.publish(&[("one", &next)]);
    let before = world.fetches();
    world
        .until("the next fetch", |world| world.fetches() > before)
        .await;
    assert_eq!(world.reason(&old).await, Some(Reason::TokenSignature));
    assert!(world.verify(&world.token("one", &next)).await.is_ok());
}

#[tokio::test]
async fn a_key_that_nobody_has_is_asked_for_once() {
    let world = World::honest().await;
    world
        .until("keys", |world| world.condition().keys == 1)
        .await;
    tokio::time::sleep(QUICK.pause).await;
    let stranger = KeyPair::p256().expect("a key");
    let token = world.token("nobody", &stranger);
    let before = world.fetches();
    let refused = world.verify(&token).await.expect_err("no such key");
    assert_eq!(
        (refused.reason, refused.retry_after),
        (Reason::TokenKey, None)
    );
    assert_eq!(world.fetches(), before + 1);
    // Long after the pause, nobody asks for it again.
    tokio::time::sleep(QUICK.pause * 2).await;
    for _ in 0..50 {
        assert_eq!(world.reason(&token).await, Some(Reason::TokenKey));
    }
    assert_eq!(world.fetches(), before + 1);
}

#[tokio::test]
async fn within_the_pause_a_caller_is_told_when_to_come_again() {
    let world = World::honest().await;
    world
        .until("keys", |world| world.condition().keys == 1)
        .await;
    tokio::time::sleep(QUICK.pause).await;
    let next = KeyPair::p256().expect("a key");
    // This one brings about a fetch, after which no other is allowed for a while.
    assert!(world.reason(&world.token("nobody", &next)).await.is_some());
    world.publish(&[("two", &next)]);
    let token = world.token("two", &next);
    if let Err(refused) = world.verify(&token).await {
        assert_eq!(refused.reason, Reason::TokenKey);
        let wait = refused.retry_after.expect("when");
        assert!(wait <= QUICK.pause, "{wait:?}");
        tokio::time::sleep(wait + Duration::from_millis(5)).await;
    }
    assert!(
        world.verify(&token).await.is_ok(),
        "{:?}",
        world.condition()
    );
}
