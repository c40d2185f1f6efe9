//! Many at once.

use std::{sync::Arc, time::Instant};

use tokio::task::JoinSet;

use super::{Answer, QUICK, World, set};
use crate::broker::{
    issuer::fetched::{ABSENT_MAX, WAITING_MAX},
    jose::KeyPair,
    reason::Reason,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_key_ids_bring_about_a_fetch_a_pause() {
    let world = Arc::new(World::honest().await);
    let good = world.token("one", &world.pair);
    assert!(world.verify(&good).await.is_ok());
    let stranger = KeyPair::ed25519().expect("a key");
    let began = Instant::now();
    let before = world.fetches();
    let mut tasks = JoinSet::new();
    for share in 0..8 {
        let world = Arc::clone(&world);
        let tokens: Vec<_> = (0..1_250)
            .map(|number| world.token(&format!("{share}-{number}"), &stranger))
            .collect();
        tasks.spawn(async move {
            for token in tokens {
                let reason = world.reason(&token).await;
                let expected = [Reason::TokenKey, Reason::IssuerUnavailable];
                assert!(reason.is_some_and(|reason| expected.contains(&reason)));
            }
        });
    }
    let mut seen = 0_u32;
    while !tasks.is_empty() {
        // Who has a good token is served all the while.
        assert!(world.verify(&good).await.is_ok());
        seen += 1;
        while let Some(joined) = tasks.try_join_next() {
            joined.expect("no panic");
        }
        tokio::task::yield_now().await;
    }
    let pauses = began.elapsed().as_millis() / QUICK.pause.as_millis();
    let fetches = world.fetches() - before;
    println!("10,000 key ids: {fetches} fetches in {pauses} pauses; {seen} good calls");
    assert!(u128::from(fetches) <= pauses + 2, "{fetches} in {pauses}");
    assert!(fetches < 1_000);
    let absent = world.one().absent.lock().expect("no panic").len();
    assert!(absent <= ABSENT_MAX, "{absent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_for_the_first_key_share_one_fetch() {
    let world = World::discovering("", QUICK).await;
    world.say_where();
    // Long enough for all to come.
    let keys = Answer::json(&set(&[("one", &world.pair)]));
    world.server.put("/keys", Answer::Silence);
    let world = Arc::new(world);
    let mut tasks = JoinSet::new();
    let (stop, stopping) = crate::shutdown::pair();
    world.issuers.start(&stopping);
    for _ in 0..WAITING_MAX + 36 {
        let (world, token) = (Arc::clone(&world), world.token("one", &world.pair));
        tasks.spawn(async move { world.reason(&token).await });
    }
    let outcomes = tasks.join_all().await;
    let told = outcomes
        .iter()
        .filter(|reason| **reason == Some(Reason::IssuerUnavailable))
        .count();
    assert_eq!(told, WAITING_MAX + 36, "{outcomes:?}");
    assert_eq!(world.server.count("/keys"), 1);
    world.server.put("/keys", keys);
    world
        .until("keys", |world| world.condition().keys == 1)
        .await;
    assert!(world.verify(&world.token("one", &world.pair)).await.is_ok());
    stop.now();
}
